# SPDX-License-Identifier: Apache-2.0
"""What `integer_conv` is told beside its tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bittern.ops._windows import window_positions


class IntegerEnds(NamedTuple):
    """Zero points, how the factor rounds, and the limits of the results."""

    zero: int
    out_zero: int
    once: bool = False
    """Whether the factor rounds once (`scaled_once`), not twice (`scaled`)."""
    low: int = -128
    high: int = 127


class IntegerGeometry(NamedTuple):
    """Which products make a sum."""

    stride: Sequence[int] = (1, 1)
    padding: Sequence[int] = (0, 0, 0, 0)
    """Left, right, top, bottom, as F.pad has it."""
    dilation: Sequence[int] = (1, 1)
    groups: int = 1

    def output_size(self, size: Sequence[int], kernel: Sequence[int]) -> tuple[int, int]:
        """Height and width of the result."""
        left, right, top, bottom = self.padding
        padded = (size[0] + top + bottom, size[1] + left + right)
        numbers = zip(padded, kernel, self.stride, self.dilation, strict=True)
        height, width = (window_positions(n, k, s, 0, d) for n, k, s, d in numbers)
        return height, width
