# SPDX-License-Identifier: Apache-2.0
"""Which tokens are alike: BiBERT's direction matching (2203.06390)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bittern.train.added.added_loss import Matching, Seen


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionMatching(Matching):
    """Pull the similarities of queries, keys and values to a teacher's, whatever their size.

    At each point, such as the layers that make queries, keys and values, both give X [batch, tokens, features]. With
    `heads` h the features are cut into h parts, P [batch, h, tokens, tokens] = X_h X_h^T; without, P = X, for hidden
    states. The loss is

        sum over points of  | P_s / |P_s| - P_t / |P_t| |,

    Euclidean over the whole batch, as the authors' code has it; P = 0 counts as P / |P| = 0. A factor of P, such as
    1 / sqrt(features), cancels.

    Errors: ValueError for outputs that have not three dimensions, features that `heads` does not divide, P of other
    sizes than the teacher's, and heads below 1.
    Source: arXiv 2203.06390; htqin/BiBERT quant_task_glue.py, transformer/modeling_quant.py.
    """

    name: str = "directions"
    heads: int | None

    def __post_init__(self) -> None:
        Matching.__post_init__(self)
        if self.heads is not None and self.heads < 1:
            raise ValueError(f"DirectionMatching: heads must be at least 1, or None for hidden ones; got {self.heads}")

    def __call__(self, seen: Seen) -> Tensor:
        losses = [self._apart(self._matrix(mine), self._matrix(theirs)) for mine, theirs in self.of(seen)]
        total: Tensor = sum(losses[1:], losses[0])
        return total

    def _matrix(self, x: Tensor) -> Tensor:
        if self.heads is None:
            return x
        parts = x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
        return parts.matmul(parts.transpose(-1, -2))

    @staticmethod
    def _apart(mine: Tensor, theirs: Tensor) -> Tensor:
        apart: Tensor = torch.linalg.vector_norm(_direction(mine) - _direction(theirs))
        return apart

    @property
    def alike(self) -> str:
        return "the same sizes" if self.heads is None else "the same batch and as many tokens"

    def comparable(self, x: Tensor, name: str) -> tuple[int, ...]:
        if x.ndim != 3 or (self.heads is not None and x.shape[2] % self.heads):
            raise ValueError(
                f"DirectionMatching: {name!r} gives {list(x.shape)}; it must give [batch, tokens, features]"
                f"{'' if self.heads is None else f', features a multiple of the {self.heads} heads'}"
            )
        return tuple(x.shape) if self.heads is None else tuple(x.shape[:2])


def _direction(p: Tensor) -> Tensor:
    size = torch.linalg.vector_norm(p)
    return p / torch.where(size > 0, size, 1.0)
