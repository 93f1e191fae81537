# SPDX-License-Identifier: Apache-2.0
"""Derivatives of `linear_8bit`, as if x were not quantized: y = x W^T + bias, with W decoded some rows at a time.

They are made of torch's own operations, so that they have derivatives of every kind themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.ops._op import Op
from bittern.ops._transforms import FrozenFunction, refuse_weight
from bittern.ops.linear_8bit.reference import LEVELS

FROZEN = ("weight", "scale")
"""Arguments 1 and 2 of the op."""
_ROWS = 512
"""Rows of W that are decoded at a time."""


def make_function(op: Op[Tensor]) -> type[FrozenFunction]:
    """The derivatives of `op`, which is `linear_8bit`."""

    class Product(FrozenFunction):
        """x, weight, scale, bias, threshold -> y."""

        @staticmethod
        def forward(*args: Any) -> Tensor:
            y: Tensor = op.overload(*args)
            return y

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            ctx.save_for_backward(*inputs[1:3])
            ctx.save_for_forward(*inputs[1:3])
            ctx.set_materialize_grads(False)
            ctx.shape = output.shape

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            wanted = ctx.needs_input_grad  # torch leaves out arguments at their defaults, here a bias of None
            refuse_weight("linear_8bit", FROZEN, wanted[1:3])
            x_grad = times_weight(grads[0], *ctx.saved_tensors) if wanted[0] else None
            bias_grad = None
            if wanted[3:4] == (True,):
                bias_grad = grads[0].reshape(-1, grads[0].shape[-1]).sum(0)
            return (x_grad, None, None, bias_grad, None)[: len(wanted)]

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
            refuse_weight("linear_8bit", FROZEN, [t is not None for t in tangents[1:3]])
            x, bias = tangents[0], tangents[3]
            if x is None:
                assert bias is not None
                return bias.expand(ctx.shape)
            y = times_transposed_weight(x, *ctx.saved_tensors)
            return y if bias is None else y + bias

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
            """Sample by sample: the outlier columns of one must not depend on the others."""
            refuse_weight("linear_8bit", FROZEN, [d is not None for d in in_dims[1:3]], "vmap")
            dims = (in_dims[0], None, None, in_dims[3], None)
            samples = [
                op(*(a if d is None else a.select(d, i) for a, d in zip(args, dims, strict=True)))
                for i in range(info.batch_size)
            ]
            return torch.stack(samples), 0

    return Product


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
