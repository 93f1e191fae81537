# SPDX-License-Identifier: Apache-2.0
"""Sizes of what `pool_bits` writes."""

from __future__ import annotations

from collections.abc import Sequence

from bittern.ops._windows import window_positions


def pooled_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], ceil: bool
) -> tuple[int, int]:
    """Height and width of the result, as torch's pools count windows; below 1 where none fits."""
    sizes = zip(size, kernel, stride, padding, strict=True)
    height, width = (window_positions(*numbers, ceil=ceil) for numbers in sizes)
    return height, width
