# SPDX-License-Identifier: Apache-2.0
"""What leaves the layers of a teacher: the mean square of the differences, as BiT has it (2205.13016)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bittern.train.added.added_loss import Matching, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenMatching(Matching):
    """Sum over points of mean (x_student - x_teacher)^2, over all numbers of the two outputs.

    Errors: ValueError for outputs of other sizes.
    Source: arXiv 2205.13016; facebookresearch/bit kd_learner_glue.py.
    """

    name: str = "hidden"

    def __call__(self, seen: Seen) -> Tensor:
        losses = [(mine - theirs).square().mean() for mine, theirs in self.of(seen)]
        total: Tensor = sum(losses[1:], losses[0])
        return total

    @property
    def alike(self) -> str:
        return "the same sizes"

    def comparable(self, x: Tensor, name: str) -> tuple[int, ...]:
        return tuple(x.shape)
