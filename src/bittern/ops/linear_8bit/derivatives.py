# SPDX-License-Identifier: Apache-2.0
"""Derivatives of `linear_8bit`, as if x were not quantized: y = x W^T + bias, with W decoded some rows at a time.

They are made of torch's own operations, so that they have derivatives of every kind themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.ops._frozen_product import frozen_product
from bittern.ops._op import Op
from bittern.ops._transforms import FrozenFunction
from bittern.ops.linear_8bit.reference import LEVELS

FROZEN = {"weight": 1, "scale": 2}
"""Arguments 1 and 2 of the op."""
BIAS = 3
_ROWS = 512
"""Rows of W that are decoded at a time."""


def make_function(op: Op[Tensor]) -> type[FrozenFunction]:
    """The derivatives of `op`, which is `linear_8bit`."""

    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return times_weight(grad, *ctx.saved_tensors)

    def forward(ctx: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        y = times_transposed_weight(x, *ctx.saved_tensors)
        return y if bias is None else y + bias

    def batched(samples: int, dims: tuple[int | None, ...], args: tuple[Any, ...]) -> Tensor:
        """Sample by sample: the outlier columns of one must not depend on the others."""
        rows = [
            op(*(a if d is None else a.select(d, i) for a, d in zip(args, dims, strict=True))) for i in range(samples)
        ]
        return torch.stack(rows)

    return frozen_product(op, FROZEN, adjoint=backward, linear=forward, batched=batched, bias=BIAS)


def times_weight(grad: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """grad [..., n] -> grad W [..., k] of grad's dtype, summed in float32."""
    scaled = grad.float() * (scale * (1 / LEVELS))
    total = grad.new_zeros((*grad.shape[:-1], weight.shape[1]), dtype=torch.float32)
    for start in range(0, weight.shape[0], _ROWS):
        rows = weight[start : start + _ROWS].float()
        total = total + scaled.narrow(-1, start, len(rows)) @ rows  # vmap knows narrow, but no index with "..."
    return total.to(grad.dtype)


def times_transposed_weight(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x [..., k] -> x W^T [..., n] of x's dtype, summed in float32."""
    parts = [x.float() @ weight[start : start + _ROWS].float().t() for start in range(0, weight.shape[0], _ROWS)]
    product = torch.cat(parts, -1) if parts else x.new_zeros((*x.shape[:-1], 0), dtype=torch.float32)
    return (product * (scale * (1 / LEVELS))).to(x.dtype)
