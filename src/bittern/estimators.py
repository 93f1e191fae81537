# SPDX-License-Identifier: Apache-2.0
"""Gradient estimators: closed forms that stand in for the derivative of a function that has none.

`binarize(x, derivative)` computes sign(x) exactly (sign(0) = +1, never x - x.detach() tricks, whose rounding would
leave the grid) and multiplies the incoming gradient by `derivative`; `straight_through` does the same for any values.
The other functions give derivatives: each returns a tensor of the shape of x that carries no gradient itself.

Second derivatives. What `straight_through` hands on is a product, gradient times derivative, which autograd follows
again: that is right where the derivative is constant in pieces (`clip`, none at all), and where a derivative is
given that autograd can follow. A derivative that bends (`approx_sign`, `error_decay`, `fourier`) is a number here,
not a function, so differentiating it is refused.

Where the weight scale goes. A layer computes y = conv(x, B) * alpha, so autograd hands B the gradient
g_B = alpha * g, where g is the gradient of the scaled weight W~ = alpha * B. A paper that states its rule as
dW = g * mask with alpha left out therefore needs dW = g_B * mask / alpha: that division is `without_scale`.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from bittern import ops


class _StraightThrough(torch.autograd.Function):
    """`values` forward; to x the gradient times a given derivative (None: 1) backward."""

    @staticmethod
    def forward(values: Tensor, x: Tensor, derivative: Tensor | None) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        derivative = inputs[2]
        ctx.has_derivative = derivative is not None
        if derivative is not None:
            ctx.save_for_backward(derivative)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        if not ctx.has_derivative:
            return None, grads[0], None
        (derivative,) = ctx.saved_tensors
        return None, grads[0] * derivative, None


class _Bent(torch.autograd.Function):
    """`derivative`, which depends on x; differentiating it is an error instead of 0."""

    @staticmethod
    def forward(x: Tensor, derivative: Tensor, what: str) -> Tensor:
        return derivative.view_as(derivative)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:
        ctx.set_materialize_grads(False)
        ctx.what = inputs[2]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[None, None, None]:
        if grads[0] is not None:
            raise NotImplementedError(
                f"estimators: {ctx.what} has no derivative of its own; got a request for a second derivative; "
                "use a method whose derivative is constant in pieces, as BNN or XNORNet, or detach"
            )
        return None, None, None


def once(x: Tensor, derivative: Tensor, what: str = "the derivative of a sign") -> Tensor:
    """`derivative`, a function of x that can be used but not differentiated: that raises NotImplementedError."""
    if torch.compiler.is_compiling() or not (x.requires_grad and torch.is_grad_enabled()):
        return derivative  # torch.compile refuses second derivatives itself
    result: Tensor = _Bent.apply(x, derivative, what)  # type: ignore[no-untyped-call]
    return result


def straight_through(values: Tensor, x: Tensor, derivative: Tensor | None = None) -> Tensor:
    """`values`, bit for bit, with d values / dx := derivative (None: 1), elementwise; all three have one shape."""
    result: Tensor = _StraightThrough.apply(values.detach(), x, derivative)  # type: ignore[no-untyped-call]
    return result


def binarize(x: Tensor, derivative: Tensor | None = None) -> Tensor:
    """sign(x) in {-1, +1} with d sign / dx := derivative (None: 1, the plain straight-through estimator)."""
    return straight_through(ops.sign(x.detach()), x, derivative)


def clip(x: Tensor, limit: float = 1.0, *, strict: bool = False) -> Tensor:
    """1 where |x| <= limit (strict: |x| < limit), else 0: the clipped straight-through estimator."""
    x = x.detach()
    inside = x.abs() < limit if strict else x.abs() <= limit
    return inside.to(x.dtype)


def approx_sign(x: Tensor) -> Tensor:
    """max(0, 2 - 2|x|): the derivative of Bi-Real Net's piecewise quadratic ApproxSign (1808.00278)."""
    return once(x, (2.0 - 2.0 * x.detach().abs()).clamp_min(0.0))


def error_decay(x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    """k * t * (1 - tanh(t x)^2): IR-Net's error decay estimator, the derivative of k * tanh(t x) (1909.10788)."""
    return once(x, k * t * (1.0 - torch.tanh(t * x.detach()).square()))


def fourier(x: Tensor, n: Tensor, omega: float, *, limit: float | None = 1.0) -> Tensor:
    """(4 omega / pi) * sum_{i=0..n} cos((2i+1) omega x): FDA-BNN's estimator, the derivative of the Fourier series of a
    square wave. 0 where |x| > limit (None: only where x is infinite).

    n: 0-dim, the index of the last term. omega: in (0, pi], the angular frequency of the wave.

    Evaluated in closed form, with theta = omega |x|: the sum is sin(2(n+1) theta) / (2 sin theta), and n + 1 at
    theta = 0. Near a multiple of pi the quotient loses all digits. The sum changes its sign with every pi, so theta
    is taken to the nearest multiple k pi, and the result times (-1)^k.
    """
    distance = x.detach().abs()
    inside = distance <= limit if limit is not None else distance.isfinite()
    theta = omega * torch.where(inside, distance, 0.0)
    turns = torch.round(theta / math.pi)
    theta = (theta - turns * math.pi).abs()
    terms = (n + 1).to(theta.dtype)
    total = torch.where(theta == 0.0, terms, torch.sin(2.0 * terms * theta) / (2.0 * torch.sin(theta)))
    total = torch.where(turns % 2.0 == 0.0, total, -total)
    return once(x, torch.where(inside, (4.0 * omega / math.pi) * total, 0.0))


def without_scale(derivative: Tensor, scale: Tensor) -> Tensor:
    """derivative / scale: takes the weight scale alpha >= 0 out of the gradient that reaches the values.

    Where the scale is 0 (a filter of zeros), or too small for its reciprocal to be finite, the result is 0:
    the gradient of the scaled weight cannot be recovered from a product with 0, so such a filter does not learn.
    `scale` broadcasts to `derivative`.
    """
    scale = scale.detach()
    usable = scale >= torch.finfo(scale.dtype).tiny
    return torch.where(usable, derivative / torch.where(usable, scale, 1.0), 0.0)
