"""Sizes of what `pool_bits` writes."""

from __future__ import annotations

from collections.abc import Sequence


def pooled_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], ceil: bool
) -> tuple[int, int]:
    """Height and width of the result, as torch's pools count windows; below 1 where none fits."""
    height, width = (_positions(*numbers, ceil) for numbers in zip(size, kernel, stride, padding, strict=True))
    return height, width


def _positions(size: int, kernel: int, stride: int, padding: int, ceil: bool) -> int:
    room = size + 2 * padding - kernel
    positions = room // stride + 1
    one_more = ceil and room % stride != 0 and positions * stride < size + padding
    return positions + one_more
