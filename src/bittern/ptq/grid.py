# SPDX-License-Identifier: Apache-2.0
"""Which integers stand for the real numbers of a value: real = scale * (integer - zero)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from bittern.ops.fixed_point import rounded_away


class Grid(NamedTuple):
    """Integers from low to high, of which `zero` is the real 0."""

    scale: float
    """A float32 number above 0."""
    zero: int
    low: int
    high: int

    @property
    def bits(self) -> int:
        return (self.high - self.low).bit_length()

    def integers(self, x: Tensor) -> Tensor:
        """The nearest integers, as float64, halves away from zero."""
        return (rounded_away(x.double() / self.scale) + self.zero).clamp(self.low, self.high)

    def reals(self, q: Tensor) -> Tensor:
        """float32 numbers, as a node `dequantize` gives them."""
        return (q.float() - self.zero) * self.scale

    @property
    def range(self) -> tuple[float, float]:
        """The least and the most real number."""
        return self.scale * (self.low - self.zero), self.scale * (self.high - self.zero)


SOFTMAX_GRID = Grid(1 / 256, -128, -128, 127)
"""The one that TensorFlow Lite gives the results of a softmax."""
