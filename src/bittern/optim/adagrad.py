# SPDX-License-Identifier: Apache-2.0
"""Adagrad (Duchi, Hazan and Singer 2011)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from torch import Tensor

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer


class Adagrad(RuleOptimizer):
    """Adagrad as torch.optim.Adagrad; its state `sum` takes state_bits and exists from the start.

    v <- v + g^2; p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(v) + eps); v starts at initial_accumulator_value.
    Further keyword arguments and errors: see `LowBitOptimizer`.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults, options)
        for group in self.param_groups:
            for p in group["params"]:
                self.state_of(p, group)

    def check_group(self, group: Group) -> None:
        names = ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")
        check_not_negative("Adagrad", group, *names)

    def initial(self, name: str, p: Tensor, group: Group) -> float:
        return float(group["initial_accumulator_value"])

    def rule(self, group: Group) -> Rule:
        return Rule.ADAGRAD

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        return {
            "step_size": group["lr"] / (1 + (counts[0] - 1) * group["lr_decay"]),
            "eps": group["eps"],
            "weight_decay": group["weight_decay"],
        }
