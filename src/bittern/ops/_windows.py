# SPDX-License-Identifier: Apache-2.0
"""How many windows fit: one formula for convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence


def window_positions(
    size: int, kernel: int, stride: int, padding: int, dilation: int = 1, *, ceil: bool = False
) -> int:
    """Positions of a sliding window along one dimension, as torch counts them; below 1 where none fits.

    ceil: also a last window that begins inside and reaches beyond the padding.
    """
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    positions = room // stride + 1
    one_more = ceil and room % stride != 0 and positions * stride < size + padding
    return positions + one_more


def convolved_size(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    """Positions of a convolution's window along each dimension; below 1 where none fits."""
    return tuple(window_positions(*one) for one in zip(size, kernel, stride, padding, dilation, strict=True))
