# SPDX-License-Identifier: Apache-2.0
"""Averaged SGD (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor

from bittern.ops.optimizer_step import Rule
from bittern.optim._batch import Counts
from bittern.optim._loaded import MOST_STEPS
from bittern.optim._optimizer import ParamsT
from bittern.optim._options import Group, Number, Options, check_floats_only, check_not_negative
from bittern.optim._rule_optimizer import RuleOptimizer


class ASGD(RuleOptimizer):
    """ASGD as torch.optim.ASGD; its average of the weights, `ax`, is float32.

    p <- p (1 - lambd eta) - eta g; ax <- ax + mu (p - ax); eta = lr / (1 + lambd lr (t - 1))^alpha,
    mu = 1 / max(1, t - 1 - t0). weight_decay is added to the gradient. lr is that of this step, where torch takes the
    one that the step before had. An average over t steps moves by 1 / t of a difference, far below a code of 8 bits.
    Further keyword arguments and errors: see `LowBitOptimizer`; ValueError for state_bits other than 32.
    """

    counters = ("step", "eta", "mu")

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "foreach": foreach,
            "maximize": maximize,
            "differentiable": differentiable,
            "capturable": capturable,
        }
        floats: Options = {"state_bits": 32}
        super().__init__(params, defaults, floats | options)

    def check_group(self, group: Group) -> None:
        check_not_negative("ASGD", group, "lr", "weight_decay", "lambd", "alpha", "t0")
        check_floats_only("ASGD", group, "its average of weights")

    def most_count(self, name: str) -> float:
        return {"step": MOST_STEPS, "eta": torch.finfo(torch.float32).max}.get(name, 1.0)

    def advance(self, group: Group, counts: Counts) -> Counts:
        """As torch keeps them: eta and mu are those of the next step."""
        step = counts[0] + 1
        return (step, _eta(group, step), _share(group, step))

    def rule(self, group: Group) -> Rule:
        return Rule.ASGD

    def scalars(self, group: Group, counts: Counts) -> Mapping[str, Any]:
        eta = _eta(group, counts[0] - 1)
        return {
            "lr": eta,
            "share": _share(group, counts[0] - 1),
            "weight_decay": group["weight_decay"],
            "keep": 1 - group["lambd"] * eta,
        }


def _eta(group: Group, done: Any) -> Any:
    return group["lr"] / (1 + group["lambd"] * group["lr"] * done) ** group["alpha"]


def _share(group: Group, done: Any) -> Any:
    since = done - group["t0"]
    return 1 / (since.clamp(min=1) if isinstance(since, Tensor) else max(since, 1))
