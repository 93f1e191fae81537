# SPDX-License-Identifier: Apache-2.0
"""The meaning of `real_conv` in plain torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops._epilogue import fused_multiply_add
from bittern.ops._windows import convolved_size
from bittern.ops.real_conv.order import SumOrder

Add = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(a, b, c) -> c + a b."""


def real_conv_reference(
    x: Tensor,
    w: Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    order: SumOrder,
    affine: Tensor | None = None,
    limits: tuple[float, float] | None = None,
    groups: int = 1,
) -> Tensor:
    """float32 [batch, out_h, out_w, out] of x [batch, height, width, channels]: chains of fma, added up in order."""
    size = convolved_size(x.shape[1:3], w.shape[2:], stride, padding, dilation)
    padded = F.pad(x, (0, 0, padding[1], padding[1], padding[0], padding[0]))
    group = torch.arange(w.shape[0]) // (w.shape[0] // groups)  # of each output channel
    zeros = x.new_zeros((x.shape[0], *size, w.shape[0]))
    products = _products(w, order)

    def chain(numbers: range, start: Tensor, add: Add = fused_multiply_add) -> Tensor:
        """start plus the products of these numbers, one by one."""
        for channel, i, j in (products[n] for n in numbers):
            taps = zip((i, j), dilation, size, stride, strict=True)
            rows, columns = (slice(tap * d, tap * d + (n - 1) * s + 1, s) for tap, d, n, s in taps)
            pixels = padded[:, rows, columns][..., group * w.shape[1] + channel]
            start = add(pixels, w[:, channel, i, j], start)
        return start

    count = len(products)
    chains = [range(first, min(first + order.chain, count)) for first in range(0, count, order.chain)]
    total = functools.reduce(torch.add, [chain(numbers, zeros) for numbers in chains])
    if order.in_turn:
        even = count - count % 2
        both = chain(range(0, even, 2), zeros, _rounded_twice) + chain(range(1, even, 2), zeros, _rounded_twice)
        outputs = w.shape[0] // groups
        is_last = torch.arange(w.shape[0]) % outputs >= outputs - order.in_turn
        total = torch.where(is_last, chain(range(even, count), both, _rounded_twice), total)
    y = total if affine is None else fused_multiply_add(total, affine[0], affine[1])
    return y if limits is None else y.clamp(*limits)


def _rounded_twice(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """c + a b, the product rounded too."""
    return c + a * b


def _products(w: Tensor, order: SumOrder) -> list[tuple[int, int, int]]:
    """(channel, kernel row, kernel column) of each product, in order."""
    channels, height, width = (range(n) for n in w.shape[1:])
    if order.channels_first:
        return [(c, i, j) for c in channels for i in height for j in width]
    return [(c, i, j) for i in height for j in width for c in channels]
