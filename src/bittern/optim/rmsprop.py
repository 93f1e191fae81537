# SPDX-License-Identifier: Apache-2.0
"""RMSprop (Tieleman and Hinton 2012), plain or centered (arXiv 1308.0850), with or without momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer

_RULES = {
    (False, False): Rule.RMSPROP,
    (False, True): Rule.RMSPROP_MOMENTUM,
    (True, False): Rule.RMSPROP_CENTERED,
    (True, True): Rule.RMSPROP_CENTERED_MOMENTUM,
}


class RMSprop(RuleOptimizer):
    """RMSprop as torch.optim.RMSprop; states `square_avg`, `momentum_buffer`, `grad_avg` in state_bits.

    v <- alpha v + (1 - alpha) g^2; p <- p - lr g / (sqrt(v) + eps). centered subtracts the squared running mean of g
    from v (never below 0); momentum > 0 accumulates the scaled gradients.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "capturable": capturable,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("RMSprop", group, "lr", "alpha", "eps", "weight_decay", "momentum")

    def rule(self, group: Group) -> Rule:
        return _RULES[bool(group["centered"]), group["momentum"] > 0]

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        return {
            "lr": group["lr"],
            "alpha": group["alpha"],
            "alpha_rest": 1 - group["alpha"],
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
            "momentum": group["momentum"],
        }
