# SPDX-License-Identifier: Apache-2.0
"""Derivatives of `linear_4bit` and of `linear_4bit_backward`, each of which is a product of the other kind.

y = x W^T + bias and its transpose g W are linear in x and g, so the derivative of one with respect to its input is the
other, in both directions and as often as it is asked for: gradients of gradients, forward mode, vmap.
The frozen weight (packed, absmax, code) is a constant of both.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bittern.ops._frozen_product import frozen_product
from bittern.ops._op import Op

FROZEN = ("packed", "absmax", "code")
"""Arguments 1 to 3 of both ops."""
BIAS = 6
"""Argument of the product alone."""


def differentiate(product: Op[Tensor], transposed: Op[Tensor]) -> None:
    """Gives `linear_4bit` and `linear_4bit_backward` derivatives that call each other."""

    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return transposed(grad, *ctx.saved_tensors, ctx.numbers[0], ctx.width)

    def forward(ctx: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        return product(x, *ctx.saved_tensors, *ctx.numbers, bias)

    def batched(samples: int, dims: tuple[int | None, ...], args: tuple[Any, ...]) -> Tensor:
        x, bias = args[0], args[BIAS]
        x = x.expand(samples, *x.shape) if dims[0] is None else x.movedim(dims[0], 0)
        if dims[BIAS] is None:
            return product(x, *args[1:])
        rows: Tensor = bias.movedim(dims[BIAS], 0).view(samples, *(1,) * (x.ndim - 2), -1)
        return product(x, *args[1:BIAS]) + rows

    def transposed_backward(ctx: Any, grad: Tensor) -> Tensor:
        return product(grad, *ctx.saved_tensors, ctx.numbers[0], ctx.width)

    def transposed_forward(ctx: Any, grad: Tensor, _: Tensor | None) -> Tensor:
        return transposed(grad, *ctx.saved_tensors, *ctx.numbers)

    def transposed_batched(_: int, dims: tuple[int | None, ...], args: tuple[Any, ...]) -> Tensor:
        return transposed(args[0].movedim(dims[0], 0), *args[1:])

    product.differentiate(frozen_product(product, FROZEN, adjoint=backward, linear=forward, batched=batched, bias=BIAS))
    transposed.differentiate(
        frozen_product(
            transposed, FROZEN, adjoint=transposed_backward, linear=transposed_forward, batched=transposed_batched
        )
    )
