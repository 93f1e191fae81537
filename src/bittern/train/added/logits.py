# SPDX-License-Identifier: Apache-2.0
"""The teacher's distribution over classes (1503.02531)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from bittern.train.added.added_loss import Matching, Point, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsMatching(Matching):
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over all but the last dimension, the classes.

    Summed over points, which is the model's output where nothing is said. Beside labels it counts by `weight`;
    `Distillation` of a recipe divides 1 between the two instead, and has the same gradient.

    Errors: ValueError for a temperature that is not above 0 and finite, and for outputs of other sizes.
    Source: arXiv 1503.02531.
    """

    name: str = "logits"
    points: tuple[Point, ...] = ("",)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        Matching.__post_init__(self)
        if not 0.0 < self.temperature < math.inf:
            raise ValueError(f"LogitsMatching: temperature must be above 0 and finite; got {self.temperature}")

    def __call__(self, seen: Seen) -> Tensor:
        losses = [self._divergence(mine, theirs) for mine, theirs in self.of(seen)]
        total: Tensor = sum(losses[1:], losses[0])
        return total

    def _divergence(self, mine: Tensor, theirs: Tensor) -> Tensor:
        t = self.temperature
        mine, theirs = ((z / t).log_softmax(-1) for z in (mine, theirs))
        return t * t * F.kl_div(mine, theirs, reduction="none", log_target=True).sum(-1).mean()

    @property
    def alike(self) -> str:
        return "the same sizes"

    def comparable(self, x: Tensor, name: str) -> tuple[int, ...]:
        return tuple(x.shape)
