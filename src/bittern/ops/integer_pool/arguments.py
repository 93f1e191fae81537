# SPDX-License-Identifier: Apache-2.0
"""What `integer_pool` is told beside its images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bittern.ops._windows import window_positions


class IntegerPoolRule(NamedTuple):
    """Windows and limits."""

    average: bool
    """Means, else maxima."""
    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int] = (0, 0, 0, 0)
    """Left, right, top, bottom, as F.pad has it."""
    low: int = -128
    high: int = 127

    def output_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width of the result."""
        left, right, top, bottom = self.padding
        padded = (size[0] + top + bottom, size[1] + left + right)
        numbers = zip(padded, self.kernel, self.stride, strict=True)
        height, width = (window_positions(n, k, s, 0) for n, k, s in numbers)
        return height, width
