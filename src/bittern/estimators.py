"""Gradient estimators for the sign function: closed forms that stand in for its derivative.

`binarize(x, derivative)` computes sign(x) exactly (sign(0) = +1, never x - x.detach() tricks, whose rounding would
leave the grid) and multiplies the incoming gradient by `derivative`. The functions below give derivatives; each
returns a tensor of the shape of x that carries no gradient itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern import ops


class _Binarize(torch.autograd.Function):
    """sign(x) forward; gradient times a given derivative backward."""

    @staticmethod
    def forward(x: Tensor, derivative: Tensor | None) -> Tensor:
        return ops.sign(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | None], output: Tensor) -> None:
        ctx.has_derivative = inputs[1] is not None
        if inputs[1] is not None:
            ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        if not ctx.has_derivative:
            return grads[0], None
        (derivative,) = ctx.saved_tensors
        return grads[0] * derivative, None


def binarize(x: Tensor, derivative: Tensor | None) -> Tensor:
    """sign(x) in {-1, +1} with d sign / dx := derivative (None: 1, the plain straight-through estimator)."""
    result: Tensor = _Binarize.apply(x, derivative)
    return result


def clip(x: Tensor, limit: float = 1.0, *, strict: bool = False) -> Tensor:
    """1 where |x| <= limit (strict: |x| < limit), else 0: the clipped straight-through estimator."""
    x = x.detach()
    inside = x.abs() < limit if strict else x.abs() <= limit
    return inside.to(x.dtype)


def approx_sign(x: Tensor) -> Tensor:
    """max(0, 2 - 2|x|): the derivative of Bi-Real Net's piecewise quadratic ApproxSign (1808.00278)."""
    return (2.0 - 2.0 * x.detach().abs()).clamp_min(0.0)
