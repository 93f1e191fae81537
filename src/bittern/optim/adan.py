# SPDX-License-Identifier: Apache-2.0
"""Adan (arXiv 2208.06677): Nesterov momentum from gradient differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_betas, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer
from bittern.optim.adam import moments


class Adan(RuleOptimizer):
    """Adan; states `exp_avg`, `exp_avg_diff`, `exp_avg_sq`, `previous_grad` in state_bits.

    d = g - g_previous (0 at first); m <- b1 m + (1 - b1) g; w <- b2 w + (1 - b2) d; n <- b3 n + (1 - b3) (g + b2 d)^2;
    p <- (p - lr (m / (1 - b1^t) + b2 w / (1 - b2^t)) / (sqrt(n / (1 - b3^t)) + eps)) / (1 + lr weight_decay).
    betas are the decay rates of the means (the paper writes 1 - beta). no_prox=True multiplies p by
    1 - lr weight_decay before the update instead of the division after it.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        no_prox: bool = False,
        maximize: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "no_prox": no_prox,
            "maximize": maximize,
            "capturable": capturable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("Adan", group, "lr", "eps", "weight_decay")
        check_betas("Adan", group["betas"], 3)

    def rule(self, group: Group) -> Rule:
        return Rule.ADAN

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        step, (beta1, beta2, beta3) = counts[0], group["betas"]
        rate = group["lr"] * group["weight_decay"]
        return {
            **moments(group["betas"]),
            "beta3": beta3,
            "beta3_rest": 1 - beta3,
            "inv_correction1": 1 / (1 - beta1**step),
            "inv_correction2": 1 / (1 - beta2**step),
            "inv_sqrt_correction3": (1 - beta3**step) ** -0.5,
            "eps": group["eps"],
            "lr": group["lr"],
            "keep": 1 - rate if group["no_prox"] else 1.0,
            "shrink": 1.0 if group["no_prox"] else 1 / (1 + rate),
            "has_previous": step > 1,
        }
