# SPDX-License-Identifier: Apache-2.0
"""What several moves of a sample's numbers do together: a reshape, slices, a permutation, and a reshape.

Slicing, splitting, transposing and reshaping read a sample at an offset, with a step along each dimension of the
result. Sorted by their steps these dimensions cut the numbers of the sample, as the digits of a place do; a slice takes
a stretch of each, and a permutation brings them into their order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rearrangement:
    """reshape(permute(slices(reshape(x, split)), order), shape), all sizes without the batch."""

    split: tuple[int, ...]
    stretches: tuple[tuple[int, int], ...]
    """(first, behind the last) along each dimension of `split`."""
    order: tuple[int, ...]
    """Of the dimensions of `split`, from 0."""
    shape: tuple[int, ...]

    def applied(self, x: Tensor) -> Tensor:
        """The same of a tensor [batch, ...]."""
        x = x.reshape(-1, *self.split)[(slice(None), *(slice(*stretch) for stretch in self.stretches))]
        return x.permute(0, *(dim + 1 for dim in self.order)).reshape(-1, *self.shape)


def rearrangement(places: Tensor, count: int) -> Rearrangement | None:
    """The moves that read a sample of `count` numbers at these places; None: they are no such moves.

    places: int64, of the shape of one sample of the result.
    """
    shape = tuple(places.shape)
    if places.numel() == 0 or count == 0:
        return None
    offset = int(places.flatten()[0])
    axes = _axes(places)
    if axes is None:
        return None
    split: list[int] = []
    stretches: list[tuple[int, int]] = []
    dims: dict[int, int] = {}
    left, rest = count, offset
    for step, size in sorted(axes, reverse=True):
        if left % step or step == left:
            return None
        extent, first = left // step, rest // step
        if first + size > extent:
            return None
        dims[step] = len(split)
        split.append(extent)
        stretches.append((first, first + size))
        left, rest = step, rest % step
    if left > 1:
        split.append(left)
        stretches.append((rest, rest + 1))
    taken = [dims[step] for step, _ in axes]
    order = tuple(taken + [dim for dim in range(len(split)) if dim not in taken])
    return Rearrangement(tuple(split), tuple(stretches), order, shape)


def _axes(places: Tensor) -> list[tuple[int, int]] | None:
    """(step, size) of the dimensions that places in their order run through, the outermost first; None: there are none.

    Each run of one step is the same in every row of such runs; then the beginnings of the runs are asked again.
    """
    own, axes = places.flatten(), []
    while own.numel() > 1:
        step = int(own[1] - own[0])
        expected = own[0] + step * torch.arange(own.numel())
        size = int((own == expected).long().cumprod(0).sum())
        if step < 1 or own.numel() % size:
            return None
        rows = own.view(-1, size)
        if not torch.equal(rows, rows[:, :1] + step * torch.arange(size)):
            return None
        axes.append((step, size))
        own = rows[:, 0]
    return axes[::-1] if len({step for step, _ in axes}) == len(axes) else None


def places_of(shape: Sequence[int]) -> Tensor:
    """int64 of this shape: where each number lies."""
    return torch.arange(math.prod(shape)).view(tuple(shape))
