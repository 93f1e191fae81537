# SPDX-License-Identifier: Apache-2.0
"""LARS (arXiv 1708.03888): momentum over gradients scaled per tensor by a trust ratio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._names import holds_codes
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer
from bittern.optim.lamb import check_max_trust


class LARS(RuleOptimizer):
    """LARS with its trust ratio in every number of state bits; state `momentum_buffer`.

    local = trust_coefficient |p| / (|g| + weight_decay |p| + eps), 1 where |p| or |g| is 0, at most max_trust;
    m <- momentum m + lr local (g + weight_decay p), dampened after the first step; p <- p - m.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    whole_tensors = True

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        momentum: float = 0.9,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        trust_coefficient: float = 1e-3,
        eps: float = 1e-8,
        max_trust: float | None = None,
        maximize: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "trust_coefficient": trust_coefficient,
            "eps": eps,
            "max_trust": max_trust,
            "maximize": maximize,
            "capturable": capturable,
        }
        super().__init__(params, defaults, options)

    def check_group(self, group: Group) -> None:
        check_not_negative("LARS", group, "lr", "momentum", "weight_decay", "trust_coefficient", "eps")
        check_max_trust("LARS", group["max_trust"])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError(
                f"LARS: nesterov needs momentum > 0 and dampening = 0; "
                f"got momentum={group['momentum']}, dampening={group['dampening']}"
            )

    def lost_in_torch(self, states: Mapping[Any, Any]) -> bool:
        return holds_codes(states)

    def rule(self, group: Group) -> Rule:
        return Rule.LARS

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        first, damped = counts[0] == 1, 1 - group["dampening"]
        if isinstance(first, Tensor):
            weight: Any = torch.where(first, 1.0, damped)
        else:
            weight = 1.0 if first else damped
        return {
            "lr": group["lr"],
            "momentum": group["momentum"],
            "gradient_weight": weight,
            "weight_decay": group["weight_decay"],
            "trust_coefficient": group["trust_coefficient"],
            "eps": group["eps"],
            "nesterov": group["nesterov"],
            "max_trust": group["max_trust"] or 0.0,
        }
