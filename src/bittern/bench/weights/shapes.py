# SPDX-License-Identifier: Apache-2.0
"""The linear layers that are timed: shapes, and how many of them a pass goes through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SIZE, LAYERS = 4096, 24
"""Features of a square layer, and how many of such a pass with one input goes through."""
ROLL = 17
"""Rows that separate one copy of a weight from the next, where a copy must not be equal to the last."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Linear layers that fit one behind the other, the first behind the last too."""

    name: str
    sizes: tuple[tuple[int, int], ...]
    """(in_features, out_features) of each."""

    @property
    def weights(self) -> int:
        return sum(columns * rows for columns, rows in self.sizes)

    @property
    def features(self) -> int:
        """In and out of the whole."""
        return self.sizes[0][0]

    def repeats(self, size: int, layers: int, batch: int) -> int:
        """How often a pass with `batch` inputs goes through these layers, each time with weights of their own.

        One input: as many weights as `layers` square ones of `size` have; more inputs: so much less, but once at least.
        """
        return max(1, round(layers * size * size / batch / self.weights))

    def moved_values(self) -> int:
        """Numbers that the layers read and write for each input, beside their weights."""
        return sum(columns + rows for columns, rows in self.sizes)

    def linears(self) -> list[nn.Linear]:
        """float32 layers that keep the variance of normal inputs, with frozen weights."""
        found = []
        for columns, rows in self.sizes:
            linear = nn.Linear(columns, rows, bias=False, device="meta")
            linear.weight = nn.Parameter(torch.randn(rows, columns) / columns**0.5, requires_grad=False)
            found.append(linear)
        return found

    def __str__(self) -> str:
        return f"{self.name} {' -> '.join(str(columns) for columns, _ in self.sizes)} -> {self.sizes[-1][1]}"


def square(size: int) -> Shape:
    return Shape("square", ((size, size),))


def mlp(size: int) -> Shape:
    """Up and down again, as Llama's MLP of 4096 features is 11008 wide."""
    wide = size * 43 // 16
    return Shape("mlp", ((size, wide), (wide, size)))


def ragged(size: int) -> Shape:
    """Features that are no multiple of a vector or of a group: 4097 and 4100."""
    return Shape("ragged", ((size + 1, size + 4), (size + 4, size + 1)))


SHAPES: tuple[Callable[[int], Shape], ...] = (square, mlp, ragged)


def inputs(shape: Shape, batch: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(batch, shape.features).to(dtype)
