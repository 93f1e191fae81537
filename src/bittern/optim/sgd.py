# SPDX-License-Identifier: Apache-2.0
"""SGD with momentum, dampening and Nesterov's look-ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._names import holds_codes
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer


class SGD(RuleOptimizer):
    """Stochastic gradient descent as torch.optim.SGD; its state `momentum_buffer` takes state_bits per parameter.

    g <- g + weight_decay p; m <- momentum m + (1 - dampening) g, m <- g at first; p <- p - lr m, or with nesterov
    p <- p - lr (g + momentum m).
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    counters = ()

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("SGD", group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"SGD: nesterov needs momentum > 0 and dampening = 0; "
                f"got momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def lost_in_torch(self, states: Mapping[Any, Any]) -> bool:
        return holds_codes(states)

    def rule(self, group: Group) -> Rule:
        return Rule.MOMENTUM if group["momentum"] != 0 else Rule.SGD

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        return {
            "lr": group["lr"],
            "momentum": group["momentum"],
            "gradient_weight": 1.0 if counts[0] == 1 else 1 - group["dampening"],
            "weight_decay": group["weight_decay"],
            "nesterov": group["nesterov"],
        }
