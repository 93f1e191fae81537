# SPDX-License-Identifier: Apache-2.0
"""AdEMAMix (arXiv 2409.03137): Adam with a second, slow running mean of the gradient."""

from __future__ import annotations

import math
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


class AdEMAMix(RuleOptimizer):
    """AdEMAMix; states `exp_avg`, `exp_avg_slow`, `exp_avg_sq` in state_bits.

    p <- p (1 - lr weight_decay) - lr (m1 / (1 - beta1^t) + alpha_t m2) / (sqrt(v / (1 - beta2^t)) + eps), m2 with
    decay rate beta3_t. alpha_t = min(t alpha / t_alpha, alpha); beta3_t goes from beta1 to beta3 in t_beta3 steps,
    linearly in its half-life; None for either: no schedule.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        t_alpha: int | None = None,
        t_beta3: int | None = None,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        maximize: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "alpha": alpha,
            "t_alpha": t_alpha,
            "t_beta3": t_beta3,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "capturable": capturable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("AdEMAMix", group, "lr", "alpha", "eps", "weight_decay")
        check_betas("AdEMAMix", group["betas"], 3)
        for name in ("t_alpha", "t_beta3"):
            if group[name] is not None and not group[name] > 0:
                raise ValueError(f"AdEMAMix: {name} must be a positive number of steps, or None; got {group[name]}")
        if group["t_beta3"] is not None and not min(group["betas"][0], group["betas"][2]) > 0:
            raise ValueError(
                f"AdEMAMix: the schedule of beta3 needs betas[0] and betas[2] above 0; got {group['betas']}; "
                "raise them, or leave t_beta3 out"
            )

    def rule(self, group: Group) -> Rule:
        return Rule.ADEMAMIX

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        step, (beta1, beta2, _) = counts[0], group["betas"]
        beta3 = _beta3(group, step)
        alpha = group["alpha"]
        if group["t_alpha"] is not None:
            alpha = _least(step * alpha / group["t_alpha"], alpha)
        return {
            **moments(group["betas"]),
            "beta3": beta3,
            "beta3_rest": 1 - beta3,
            "alpha": alpha,
            "inv_correction1": 1 / (1 - beta1**step),
            "inv_sqrt_correction2": (1 - beta2**step) ** -0.5,
            "eps": group["eps"],
            "lr": group["lr"],
            **decay(group, decoupled=True),
        }


def _beta3(group: Group, step: Any) -> Any:
    """exp(ln b1 ln b3 / ((1 - t/T) ln b3 + t/T ln b1)), at most b3."""
    beta1, _, beta3 = group["betas"]
    if group["t_beta3"] is None:
        return beta3
    done = _least(step / group["t_beta3"], 1.0)
    log1, log3 = math.log(beta1), math.log(beta3)
    return _least(math.e ** (log1 * log3 / ((1 - done) * log3 + done * log1)), beta3)


def _least(x: Any, limit: float) -> Any:
    return torch.clamp(x, max=limit) if isinstance(x, Tensor) else min(x, limit)
