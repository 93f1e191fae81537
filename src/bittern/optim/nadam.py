# SPDX-License-Identifier: Apache-2.0
"""NAdam (Dozat 2016): Adam with Nesterov momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_betas, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer
from bittern.optim.adam import decay, moments

_SCHEDULE = 0.96
"""Base of the momentum schedule of Dozat 2016, mu_t = beta1 (1 - 0.5 * 0.96^(t momentum_decay))."""


class NAdam(RuleOptimizer):
    """NAdam as torch.optim.NAdam; states `exp_avg`, `exp_avg_sq` in state_bits, `mu_product` the product of the mu_t.

    p <- p - lr ((1 - mu_t) / (1 - prod mu) g + mu_{t+1} / (1 - mu_{t+1} prod mu) m) / (sqrt(v / (1 - beta2^t)) + eps).
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    counters = ("step", "mu_product")

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
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
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("NAdam", group, "lr", "eps", "weight_decay", "momentum_decay")
        check_betas("NAdam", group["betas"], 2)

    def first_count(self, name: str) -> float:
        return 1.0 if name == "mu_product" else 0.0

    def advance(self, group: Group, counts: Counts) -> Counts:
        step, product = counts
        return (step + 1, product * _mu(group, step + 1))

    def rule(self, group: Group) -> Rule:
        return Rule.NADAM

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        step, product = counts
        mu, mu_next = _mu(group, step), _mu(group, step + 1)
        return {
            **moments(group["betas"]),
            "gradient_step": group["lr"] * (1 - mu) / (1 - product),
            "momentum_step": group["lr"] * mu_next / (1 - product * mu_next),
            "inv_sqrt_correction2": (1 - group["betas"][1] ** step) ** -0.5,
            "eps": group["eps"],
            **decay(group, decoupled=group["decoupled_weight_decay"]),
        }


def _mu(group: Group, step: Any) -> Any:
    return group["betas"][0] * (1 - 0.5 * _SCHEDULE ** (step * group["momentum_decay"]))
