# SPDX-License-Identifier: Apache-2.0
"""Where activations are large: Real-to-Binary's attention matching (2003.11535)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bittern._options import check_choice
from bittern.train.added.added_loss import Matching, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMatching(Matching):
    """Pull the places where the model's activations are large to those of a teacher's.

    At each point both give A [batch, channels, *space], of any number of channels each; Q is the mean of A^2 over the
    channels, of each sample a vector of its pixels, and Q = 0 counts as Q / |Q| = 0.

        form="paper"  mean over the batch of  sum over points of | Q_s / |Q_s| - Q_t / |Q_t| |   (Euclidean)
        form="larq"   mean over batch, points and pixels of (Q_s / max Q_s - Q_t / max Q_t)^2, as Larq's code

    Errors: ValueError for outputs without space, or of another batch or space than the teacher's.
    Source: arXiv 2003.11535; larq/zoo training/knowledge_distillation/knowledge_distillation.py.
    """

    name: str = "attention"
    form: Literal["paper", "larq"] = "paper"

    def __post_init__(self) -> None:
        Matching.__post_init__(self)
        check_choice("AttentionMatching", "form", self.form, ("paper", "larq"))

    def __call__(self, seen: Seen) -> Tensor:
        losses = [self._at(_attention(mine), _attention(theirs)) for mine, theirs in self.of(seen)]
        total = torch.stack(losses)
        return total.sum() if self.form == "paper" else total.mean()

    def _at(self, mine: Tensor, theirs: Tensor) -> Tensor:
        if self.form == "larq":
            first, second = (_over(q, q.amax(1, keepdim=True)) for q in (mine, theirs))
            return (first - second).square().mean()
        first, second = (_over(q, torch.linalg.vector_norm(q, dim=1, keepdim=True)) for q in (mine, theirs))
        apart: Tensor = torch.linalg.vector_norm(first - second, dim=1).mean()
        return apart

    @property
    def alike(self) -> str:
        return "the same batch and the same space"

    def comparable(self, x: Tensor, name: str) -> tuple[int, ...]:
        if x.ndim < 3:
            raise ValueError(
                f"AttentionMatching: {name!r} gives {list(x.shape)}, which has no space [batch, channels, *space]; "
                "name a module in front of the pooling"
            )
        return (x.shape[0], *x.shape[2:])


def _attention(x: Tensor) -> Tensor:
    """[batch, channels, *space] -> [batch, pixels]."""
    return x.square().mean(1).flatten(1)


def _over(q: Tensor, size: Tensor) -> Tensor:
    return q / torch.where(size > 0, size, 1.0)
