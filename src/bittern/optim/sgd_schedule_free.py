# SPDX-License-Identifier: Apache-2.0
"""Schedule-free SGD (arXiv 2405.15682)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_floats_only
from bittern.optim._schedule_free import ScheduleFree


class SGDScheduleFree(ScheduleFree):
    """Schedule-free SGD as its authors' package; its only state, `z`, is float32.

    u = g + weight_decay y; z <- z - lr u; x, y, the modes and all other arguments as `AdamWScheduleFree`, with momentum
    in place of beta1. Errors: as there; ValueError for state_bits other than 32.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0,
        warmup_steps: int = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "warmup_steps": warmup_steps,
            "r": r,
            "weight_lr_power": weight_lr_power,
            "foreach": foreach,
            "maximize": maximize,
            "train_mode": True,
        }
        floats: Options = {"state_bits": 32}
        super().__init__(params, defaults, floats | options)

    def beta(self, group: Group) -> float:
        return float(group["momentum"])

    def check_group(self, group: Group) -> None:
        self.check_sequences(group)
        check_floats_only("SGDScheduleFree", group, "its sequence z of weights")

    def rule(self, group: Group) -> Rule:
        return Rule.SCHEDULE_FREE_SGD

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        return self.sequences(group, counts)
