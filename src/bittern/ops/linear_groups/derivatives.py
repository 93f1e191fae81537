# SPDX-License-Identifier: Apache-2.0
"""Derivatives of `linear_groups`, as if x were not quantized: y = x W^T + bias, with W decoded some rows at a time.

They are made of torch's own operations, so that they have derivatives of every kind themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bittern.ops._frozen_product import frozen_product
from bittern.ops._op import Op
from bittern.ops._transforms import FrozenFunction
from bittern.ops.linear_groups.dequantize import dequantize_groups
from bittern.ops.linear_groups.layout import ROWS

FROZEN = {"codes": 1, "scale": 2, "zero": 3}
"""Arguments 1 to 3 of the op."""
BIAS = 6
_TILES = 32
"""Tiles of rows that are decoded at a time."""


def make_function(op: Op[Tensor]) -> type[FrozenFunction]:
    """The derivatives of `op`, which is `linear_groups`."""

    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """grad [..., out] -> grad W [..., in] of grad's dtype, summed in float32."""
        total = grad.new_zeros((*grad.shape[:-1], ctx.width), dtype=torch.float32)
        for start, weight in _decoded(ctx.saved_tensors, ctx.numbers[0], grad.shape[-1], ctx.width):
            total = total + grad.narrow(-1, start, len(weight)).float() @ weight  # vmap knows narrow, no index with ...
        return total.to(grad.dtype)

    def forward(ctx: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        """x [..., in] -> x W^T + bias [..., out] of x's dtype, summed in float32."""
        rows = _decoded(ctx.saved_tensors, ctx.numbers[0], ctx.numbers[1], ctx.width)
        parts = [x.float() @ weight.t() for _, weight in rows]
        y = torch.cat(parts, -1) if parts else x.new_zeros((*x.shape[:-1], 0), dtype=torch.float32)
        return (y if bias is None else y + bias.float()).to(x.dtype)

    def batched(samples: int, dims: tuple[int | None, ...], args: tuple[Any, ...]) -> Tensor:
        """Rows of x do not depend on each other, so that all samples are one call."""
        x, bias = args[0], args[BIAS]
        x = x.expand(samples, *x.shape) if dims[0] is None else x.movedim(dims[0], 0)
        if dims[BIAS] is None:
            return op(x, *args[1:])
        rows: Tensor = bias.movedim(dims[BIAS], 0).view(samples, *(1,) * (x.ndim - 2), -1)
        return op(x, *args[1:BIAS], None, *args[BIAS + 1 :]) + rows

    return frozen_product(op, FROZEN, adjoint=backward, linear=forward, batched=batched, bias=BIAS)


def _decoded(weight: Any, group: int, rows: int, columns: int) -> Iterator[tuple[int, Tensor]]:
    """(first row, rows of W in float32), `_TILES` tiles at a time."""
    codes, scale, zero = weight
    for tile in range(0, len(codes), _TILES):
        some, start = slice(tile, tile + _TILES), tile * ROWS
        count = min(_TILES * ROWS, rows - start)
        yield (
            start,
            dequantize_groups(codes[some], scale[some], None if zero is None else zero[some], group, count, columns),
        )
