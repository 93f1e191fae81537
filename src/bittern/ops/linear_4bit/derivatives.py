# SPDX-License-Identifier: Apache-2.0
"""Derivatives of `linear_4bit` and of `linear_4bit_backward`, each of which is a product of the other kind.

y = x W^T + bias and its transpose g W are linear in x and g, so the derivative of one with respect to its input is the
other, in both directions and as often as it is asked for: gradients of gradients, forward mode, vmap.
The frozen weight (packed, absmax, code) is a constant of both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.ops._op import Op
from bittern.ops._transforms import FrozenFunction, refuse_weight

FROZEN = ("packed", "absmax", "code")
"""Arguments 1 to 3 of both ops."""


def differentiate(product: Op[Tensor], transposed: Op[Tensor]) -> None:
    """Gives `linear_4bit` and `linear_4bit_backward` derivatives that call each other."""

    class Product(FrozenFunction):
        """x, packed, absmax, code, block_size, out_features, bias -> y."""

        @staticmethod
        def forward(*args: Any) -> Tensor:
            y: Tensor = product.overload(*args)
            return y

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            _keep(ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            wanted = ctx.needs_input_grad  # torch leaves out arguments at their defaults, here a bias of None
            refuse_weight("linear_4bit", FROZEN, wanted[1:4])
            x_grad = transposed(grads[0], *ctx.saved_tensors, ctx.block_size, ctx.width) if wanted[0] else None
            bias_grad = _over_rows(grads[0]) if wanted[6:7] == (True,) else None
            return (x_grad, None, None, None, None, None, bias_grad)[: len(wanted)]

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
            refuse_weight("linear_4bit", FROZEN, [t is not None for t in tangents[1:4]])
            x, bias = tangents[0], tangents[6]
            if x is None:
                assert bias is not None
                return bias.expand(ctx.shape)
            return product(x, *ctx.saved_tensors, ctx.block_size, ctx.shape[-1], bias)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
            refuse_weight("linear_4bit", FROZEN, [d is not None for d in in_dims[1:4]], "vmap")
            x, bias = args[0], args[6]
            if in_dims[0] is None:
                x = x.expand(info.batch_size, *x.shape)
            else:
                x = x.movedim(in_dims[0], 0)
            if in_dims[6] is None:
                return product(x, *args[1:]), 0
            rows = bias.movedim(in_dims[6], 0).view(info.batch_size, *(1,) * (x.ndim - 2), -1)
            return product(x, *args[1:6]) + rows, 0

    class TransposedProduct(FrozenFunction):
        """grad, packed, absmax, code, block_size, in_features -> grad W."""

        @staticmethod
        def forward(*args: Any) -> Tensor:
            y: Tensor = transposed.overload(*args)
            return y

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            _keep(ctx, inputs, output)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            refuse_weight("linear_4bit_backward", FROZEN, ctx.needs_input_grad[1:4])
            return product(grads[0], *ctx.saved_tensors, ctx.block_size, ctx.width), None, None, None, None, None

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
            refuse_weight("linear_4bit_backward", FROZEN, [t is not None for t in tangents[1:4]])
            return transposed(tangents[0], *ctx.saved_tensors, ctx.block_size, ctx.shape[-1])

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
            refuse_weight("linear_4bit_backward", FROZEN, [d is not None for d in in_dims[1:4]], "vmap")
            return transposed(args[0].movedim(in_dims[0], 0), *args[1:]), 0

    product.differentiate(Product)
    transposed.differentiate(TransposedProduct)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:4])
    ctx.save_for_forward(*inputs[1:4])
    ctx.set_materialize_grads(False)
    ctx.block_size, ctx.width, ctx.shape = inputs[4], inputs[0].shape[-1], output.shape


def _over_rows(grad: Tensor) -> Tensor:
    """[out]: the sum over all dimensions but the last, of which there may be none."""
    return torch.sum(grad.reshape(-1, grad.shape[-1]), 0)
