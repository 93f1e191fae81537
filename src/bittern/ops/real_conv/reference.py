# SPDX-License-Identifier: Apache-2.0
"""The meaning of `real_conv` in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops._epilogue import fused_multiply_add
from bittern.ops._windows import convolved_size
from bittern.ops.real_conv.order import SumOrder


def real_conv_reference(
    x: Tensor,
    w: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    order: SumOrder,
    affine: Tensor | None = None,
    limits: tuple[float, float] | None = None,
) -> Tensor:
    """float32 [batch, out_h, out_w, out] of x [batch, height, width, channels]: chains of fma, added up in order."""
    size = convolved_size(x.shape[1:3], w.shape[2:], stride, padding, dilation)
    padded = F.pad(x, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    total, chain = None, x.new_zeros((x.shape[0], *size, w.shape[0]))
    products = _products(w, order)
    for number, (channel, i, j) in enumerate(products, start=1):
        taps = zip((i, j), dilation, size, stride, strict=True)
        rows, columns = (slice(tap * d, tap * d + (n - 1) * s + 1, s) for tap, d, n, s in taps)
        pixels = padded[:, rows, columns, channel, None]
        chain = fused_multiply_add(pixels.expand_as(chain), w[:, channel, i, j], chain)
        if number % order.chain == 0 or number == len(products):
            total, chain = (chain if total is None else total + chain), torch.zeros_like(chain)
    assert total is not None
    y = total if affine is None else fused_multiply_add(total, affine[0], affine[1])
    return y if limits is None else y.clamp(*limits)


def _products(w: Tensor, order: SumOrder) -> list[tuple[int, int, int]]:
    """(channel, kernel row, kernel column) of each product, in order."""
    channels, height, width = (range(n) for n in w.shape[1:])
    if order.channels_first:
        return [(c, i, j) for c in channels for i in height for j in width]
    return [(c, i, j) for i in height for j in width for c in channels]
