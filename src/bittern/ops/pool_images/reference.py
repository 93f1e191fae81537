# SPDX-License-Identifier: Apache-2.0
"""The meaning of `pool_images` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._epilogue import fused_multiply_add
from bittern.ops.pool_images.rule import PoolRule

SUMS = 4
"""Sums side by side of a row of numbers, as torch has them."""
CASCADE = 16
"""Numbers after which such a sum is put aside, and starts anew."""


def pool_images_reference(x: Tensor, rule: PoolRule, size: tuple[int, int], affine: Tensor | None = None) -> Tensor:
    """float32 [batch, *size, channels] of x [batch, height, width, channels]; affine: [2, channels]."""
    x = x if affine is None else fused_multiply_add(x, affine[0], affine[1])
    batch, height, width, channels = x.shape
    out = x.new_empty((batch, *size, channels))
    for i, j in torch.cartesian_prod(torch.arange(size[0]), torch.arange(size[1])).tolist():
        top, left = i * rule.stride[0] - rule.padding[0], j * rule.stride[1] - rule.padding[1]
        bottom = min(top + rule.kernel[0], height + rule.padding[0])
        right = min(left + rule.kernel[1], width + rule.padding[1])
        window = x[:, max(top, 0) : bottom, max(left, 0) : right].flatten(1, 2)
        if rule.average:
            pixels = (bottom - top) * (right - left) if rule.count_padding else window.shape[1]
            out[:, i, j] = _sum_in_order(window) / torch.full((), float(pixels))
        else:
            out[:, i, j] = window.amax(1)
    return out


def mean_reference(x: Tensor, lanes: int) -> Tensor:
    """float32 [batch, channels]: the mean of all pixels, added as torch adds a row with vectors of `lanes` numbers.

    Numbers i, i + lanes, ... go to four sums in turn; then come what fills no vector, and one lane after another.
    """
    pixels = x.flatten(1, 2)
    count = pixels.shape[1]
    vectors = count // lanes
    whole = pixels[:, : vectors * lanes].view(x.shape[0], vectors, lanes, x.shape[3])
    sums = None
    for k in range(SUMS):
        mine = whole[:, k : vectors // SUMS * SUMS : SUMS]
        carried, now = torch.zeros_like(whole[:, :0].sum(1)), torch.zeros_like(whole[:, :0].sum(1))
        for g in range(mine.shape[1]):
            now = now + mine[:, g]
            if g % CASCADE == CASCADE - 1:
                carried, now = carried + now, torch.zeros_like(now)
        now = now + carried
        if k == 0:
            for left in range(vectors // SUMS * SUMS, vectors):
                now = now + whole[:, left]
        sums = now if sums is None else sums + now
    assert sums is not None
    total = _sum_in_order(pixels[:, vectors * lanes :])
    for lane in range(lanes):
        total = total + sums[:, lane]
    return total / torch.full((), float(count))


def _sum_in_order(x: Tensor) -> Tensor:
    """[batch, channels] of [batch, n, channels]: one number after another."""
    total = x.new_zeros((x.shape[0], x.shape[2]))
    for i in range(x.shape[1]):
        total = total + x[:, i]
    return total
