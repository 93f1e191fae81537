# SPDX-License-Identifier: Apache-2.0
"""Derivatives of `linear_4bit` and of `linear_4bit_backward`, each of which is a product of the other kind.

y = x W^T + bias and its transpose g W are linear in x and g, so the derivative of one with respect to its input is the
other, in both directions and as often as it is asked for: gradients of gradients, forward mode, vmap.
The frozen weight (packed, absmax, code, and what decodes absmax) is a constant of both.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bittern.ops._frozen_product import frozen_product
from bittern.ops._op import Op

FROZEN = {"packed": 1, "absmax": 2, "code": 3}
"""Arguments of both ops."""
BIAS = 6
"""Argument of the product alone."""
NESTED = {"absmax_scales": 7, "absmax_offset": 8}
"""Arguments of the product; those of its transpose come one before, as it has no bias."""


def differentiate(product: Op[Tensor], transposed: Op[Tensor]) -> None:
    """Gives `linear_4bit` and `linear_4bit_backward` derivatives that call each other."""

    def backward(ctx: Any, grad: Tensor) -> Tensor:
        packed, absmax, code, scales, offset = ctx.saved_tensors
        return transposed(grad, packed, absmax, code, ctx.numbers[0], ctx.width, scales, offset)

    def forward(ctx: Any, x: Tensor, bias: Tensor | None) -> Tensor:
        packed, absmax, code, scales, offset = ctx.saved_tensors
        return product(x, packed, absmax, code, *ctx.numbers, bias, scales, offset)

    def batched(samples: int, dims: tuple[int | None, ...], args: tuple[Any, ...]) -> Tensor:
        x, bias = args[0], args[BIAS]
        x = x.expand(samples, *x.shape) if dims[0] is None else x.movedim(dims[0], 0)
        if dims[BIAS] is None:
            return product(x, *args[1:])
        rows: Tensor = bias.movedim(dims[BIAS], 0).view(samples, *(1,) * (x.ndim - 2), -1)
        return product(x, *args[1:BIAS], None, *args[BIAS + 1 :]) + rows

    def transposed_backward(ctx: Any, grad: Tensor) -> Tensor:
        packed, absmax, code, scales, offset = ctx.saved_tensors
        return product(grad, packed, absmax, code, ctx.numbers[0], ctx.width, None, scales, offset)

    def transposed_forward(ctx: Any, grad: Tensor, _: Tensor | None) -> Tensor:
        packed, absmax, code, scales, offset = ctx.saved_tensors
        return transposed(grad, packed, absmax, code, *ctx.numbers, scales, offset)

    def transposed_batched(_: int, dims: tuple[int | None, ...], args: tuple[Any, ...]) -> Tensor:
        return transposed(args[0].movedim(dims[0], 0), *args[1:])

    frozen = {**FROZEN, **NESTED}
    product.differentiate(frozen_product(product, frozen, adjoint=backward, linear=forward, batched=batched, bias=BIAS))
    places = {**FROZEN, **{name: place - 1 for name, place in NESTED.items()}}
    transposed.differentiate(
        frozen_product(
            transposed, places, adjoint=transposed_backward, linear=transposed_forward, batched=transposed_batched
        )
    )
