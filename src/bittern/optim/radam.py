# SPDX-License-Identifier: Apache-2.0
"""RAdam (arXiv 1908.03265): Adam that waits until the variance of its second moment is tractable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_betas, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer
from bittern.optim.adam import decay, moments

_TRACTABLE = 5.0
"""Length of the simple moving average from which the variance is taken to be tractable."""


class RAdam(RuleOptimizer):
    """RAdam as torch.optim.RAdam; states `exp_avg`, `exp_avg_sq` in state_bits.

    rho = rho_inf - 2 t beta2^t / (1 - beta2^t), rho_inf = 2 / (1 - beta2) - 1. Above 5:
    p <- p - lr r m / (1 - beta1^t) sqrt(1 - beta2^t) / (sqrt(v) + eps), else p <- p - lr m / (1 - beta1^t).
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("RAdam", group, "lr", "eps", "weight_decay")
        check_betas("RAdam", group["betas"], 2)

    def rule(self, group: Group) -> Rule:
        return Rule.RADAM

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        step, (beta1, beta2) = counts[0], group["betas"]
        correction2 = 1 - beta2**step
        limit = 2 / (1 - beta2) - 1
        length = limit - 2 * step * beta2**step / correction2
        rectified = (length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)
        plain = group["lr"] / (1 - beta1**step)
        adaptive = length > _TRACTABLE
        if isinstance(adaptive, Tensor):
            factor: Any = torch.where(adaptive, (rectified.clamp(min=0) * correction2) ** 0.5, 1.0)
        else:
            factor = (rectified * correction2) ** 0.5 if adaptive else 1.0
        return {
            **moments(group["betas"]),
            "step_size": plain * factor,
            "adaptive": adaptive,
            "eps": group["eps"],
            **decay(group, decoupled=group["decoupled_weight_decay"]),
        }
