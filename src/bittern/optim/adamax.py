# SPDX-License-Identifier: Apache-2.0
"""Adamax (arXiv 1412.6980, section 7): Adam by the infinity norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_betas, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer


class Adamax(RuleOptimizer):
    """Adamax as torch.optim.Adamax; states `exp_avg`, `exp_inf` in state_bits.

    m <- beta1 m + (1 - beta1) g; u <- max(beta2 u, |g| + eps); p <- p - lr / (1 - beta1^t) m / u.
    weight_decay is added to the gradient.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("Adamax", group, "lr", "eps", "weight_decay")
        check_betas("Adamax", group["betas"], 2)

    def rule(self, group: Group) -> Rule:
        return Rule.ADAMAX

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        beta1, beta2 = group["betas"]
        return {
            "beta1": beta1,
            "beta1_rest": 1 - beta1,
            "beta2": beta2,
            "step_size": group["lr"] / (1 - beta1 ** counts[0]),
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
        }
