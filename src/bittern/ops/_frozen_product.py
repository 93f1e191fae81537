# SPDX-License-Identifier: Apache-2.0
"""The derivatives of products with a frozen weight, y = x W^T + bias or g W: linear in x and in the bias, W a constant.

Such an op takes x, the tensors that make up W, numbers and perhaps a bias. What differs from one to the other is
how it multiplies by W from either side, and what vmap may do with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.ops._op import Op
from bittern.ops._transforms import FrozenFunction, refuse_weight

Batched = Callable[[int, tuple[int | None, ...], tuple[Any, ...]], Tensor]
"""(samples, the dimension of the samples of each argument, arguments) -> y of all samples, the samples first."""


def frozen_product(
    op: Op[Tensor],
    frozen: Mapping[str, int],
    *,
    adjoint: Callable[[Any, Tensor], Tensor],
    linear: Callable[[Any, Tensor, Tensor | None], Tensor],
    batched: Batched,
    bias: int | None = None,
) -> type[FrozenFunction]:
    """The derivatives of `op`. frozen: its arguments of W, and their positions; bias: the position of its bias.

    adjoint: (ctx, gradient of y) -> gradient of x; linear: (ctx, tangent of x, of the bias) -> tangent of y.
    ctx: saved_tensors, those of W; numbers, the op's other arguments; width, of x; shape, of y.
    """
    places = tuple(frozen.values())

    def of_weight(args: Sequence[Any]) -> list[Any]:
        return [args[i] if i < len(args) else None for i in places]  # torch leaves out arguments at their defaults

    class Product(FrozenFunction):
        @staticmethod
        def forward(*args: Any) -> Tensor:
            y: Tensor = op.overload(*args)
            return y

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            ctx.save_for_backward(*of_weight(inputs))
            ctx.save_for_forward(*of_weight(inputs))
            ctx.set_materialize_grads(False)
            ctx.numbers = tuple(a for i, a in enumerate(inputs) if i > 0 and i != bias and i not in places)
            ctx.width, ctx.shape = inputs[0].shape[-1], output.shape

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
            wanted = ctx.needs_input_grad
            refuse_weight(op.name, [*frozen], [bool(asked) for asked in of_weight(wanted)])
            result: list[Tensor | None] = [None] * len(wanted)
            if wanted[0]:
                result[0] = adjoint(ctx, grads[0])
            if bias is not None and wanted[bias : bias + 1] == (True,):
                result[bias] = torch.sum(grads[0].reshape(-1, grads[0].shape[-1]), 0)
            return tuple(result)

        @staticmethod
        def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
            refuse_weight(op.name, [*frozen], [t is not None for t in of_weight(tangents)])
            x, of_bias = tangents[0], None if bias is None else tangents[bias]
            if x is None:
                assert of_bias is not None
                return of_bias.expand(ctx.shape)
            return linear(ctx, x, of_bias)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Tensor, int]:
            refuse_weight(op.name, [*frozen], [d is not None for d in of_weight(in_dims)], "vmap")
            return batched(info.batch_size, in_dims, args), 0

    return Product
