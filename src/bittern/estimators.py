# SPDX-License-Identifier: Apache-2.0
"""Gradient estimators: what stands in for the derivative of a function that has none, as data.

An estimator is a small record: `Clip`, `ApproxSign`, `ErrorDecay`, `Fourier`, `Levels`. `derivative(x)` is its formula,
a tensor of the shape of x that carries no gradient itself. `binarize(x, estimator)` computes sign(x) exactly (sign(0) =
+1, never x - x.detach() tricks, whose rounding would leave the grid); backward multiplies the incoming gradient by the
derivative, in one pass of an op that has it from x, or from a mask of one bit an element (`Clip`, `Levels`): no tensor
of derivatives is kept. `binarize(x, tensor)` takes any derivative as a tensor, `straight_through` any values.

Memory. An image with channels last stays so. Under torch.func, and where something differentiates forward, an estimator
is its formula by torch's own operations.

Second derivatives. What an estimator hands on is a product, gradient times derivative, which autograd follows
again: that is right where the derivative is constant in pieces (`Clip`, `Levels`, none at all), and where a derivative
is given that autograd can follow. A derivative that bends (`ApproxSign`, `ErrorDecay`, `Fourier`) is a number here,
not a function, so differentiating it is refused.

Where the weight scale goes. A layer computes y = conv(x, B) * alpha, so autograd hands B the gradient
g_B = alpha * g, where g is the gradient of the scaled weight W~ = alpha * B. A paper that states its rule as
dW = g * mask with alpha left out therefore needs dW = g_B * mask / alpha: that division is `without_scale`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from bittern import ops
from bittern.ops._transforms import transform_is_active


class Estimator(Protocol):
    """Values on a grid, and the derivative that stands in for theirs."""

    @property
    def bends(self) -> bool:
        """Whether the derivative has a derivative of its own, which is refused; then `backward` needs x."""

    def values(self, x: Tensor) -> Tensor:
        """What comes out, without a gradient."""

    def derivative(self, x: Tensor) -> Tensor:
        """The formula, elementwise."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The values, and what `backward` needs beside x."""

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        """grad times the derivative; kept: x where it bends, and what `forward` gave."""


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


def in_memory_order(function: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
    """function(x, *others), elementwise or by samples, for an image with channels last without a copy of it.

    others: of the shape of x, in any order of memory.
    """
    if x.ndim != 4 or x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return function(x, *others)
    return function(*(t.permute(0, 2, 3, 1) for t in (x, *others))).permute(0, 3, 1, 2)


class _Estimated(torch.autograd.Function):
    """`values` forward; backward as the estimator says."""

    @staticmethod
    def forward(values: Tensor, x: Tensor, estimator: Estimator, *kept: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, x, estimator, *kept = inputs
        ctx.estimator, ctx.kept = estimator, len(kept)
        ctx.save_for_backward(*((x, *kept) if estimator.bends else kept))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        estimator, kept, grad = ctx.estimator, ctx.saved_tensors, grads[0]
        if torch.is_grad_enabled():  # the result may be differentiated again; the same bits
            slope = estimator.backward(torch.ones_like(grad), *(k.detach() for k in kept))
            result = grad * (once(kept[0], slope) if estimator.bends else slope)
        else:
            result = estimator.backward(grad, *kept)
        return None, result, None, *(None,) * ctx.kept


def estimate(x: Tensor, estimator: Estimator) -> Tensor:
    """The values of an estimator, whose gradient is that of x times its derivative."""
    if not torch.compiler.is_compiling() and transform_is_active():
        return straight_through(estimator.values(x.detach()), x, estimator.derivative(x))
    if not (x.requires_grad and torch.is_grad_enabled()):
        return _alone(x, estimator)

    def run(x: Tensor) -> Tensor:
        values, kept = estimator.forward(x)
        result: Tensor = _Estimated.apply(values, x, estimator, *kept)  # type: ignore[no-untyped-call]
        return result

    return in_memory_order(run, x)


def _alone(x: Tensor, estimator: Estimator) -> Tensor:
    """The values where nothing asks for a gradient; one operator in an exported graph."""
    x = x.detach()
    return estimator.values(x) if torch.compiler.is_exporting() else in_memory_order(estimator.values, x)


def binarize(x: Tensor, estimator: Estimator | Tensor | None = None) -> Tensor:
    """sign(x) in {-1, +1} with the derivative of an estimator of signs, or the given one.

    None: 1, the plain straight-through estimator.
    """
    if estimator is None or isinstance(estimator, Tensor):
        return straight_through(_alone(x, Clip()), x, estimator)
    return estimate(x, estimator)


class Clip(NamedTuple):
    """1 where |x| <= limit (strict: |x| < limit), else 0: the clipped straight-through estimator."""

    limit: float = 1.0
    strict: bool = False

    @property
    def bends(self) -> bool:
        return False

    def values(self, x: Tensor) -> Tensor:
        return ops.sign(x)

    def derivative(self, x: Tensor) -> Tensor:
        x = x.detach()
        inside = x.abs() < self.limit if self.strict else x.abs() <= self.limit
        return inside.to(x.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        values, mask = ops.clipped_sign(x.detach(), self.limit, self.strict)
        return values, (mask,)

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.masked_gradient(grad, kept[0])


class Levels(NamedTuple):
    """2^bits - 1 where 0 <= x <= 1, else 0, for round_half_even(clip(x, 0, 1) * (2^bits - 1)), whose NaN is 0."""

    bits: int = 1

    @property
    def bends(self) -> bool:
        return False

    @property
    def top(self) -> float:
        """The highest level."""
        return float(2**self.bits - 1)

    def values(self, x: Tensor) -> Tensor:
        return ops.clipped_levels(x, self.bits)[0]

    def derivative(self, x: Tensor) -> Tensor:
        x = x.detach()
        return self.top * ((x >= 0.0) & (x <= 1.0)).to(x.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        values, mask = ops.clipped_levels(x.detach(), self.bits)
        return values, (mask,)

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.masked_gradient(grad, kept[0], self.top)


def _slope(op: ops.Op[Tensor], x: Tensor, *constants: Any) -> Tensor:
    """What the op multiplies a gradient by, by its formula."""
    return op.reference(torch.ones_like(x), x.detach(), *constants)


class ApproxSign(NamedTuple):
    """max(0, 2 - 2|x|): the derivative of Bi-Real Net's piecewise quadratic ApproxSign (1808.00278)."""

    @property
    def bends(self) -> bool:
        return True

    def values(self, x: Tensor) -> Tensor:
        return ops.sign(x)

    def derivative(self, x: Tensor) -> Tensor:
        return once(x, _slope(ops.approx_sign_gradient, x))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign(x.detach()), ()

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.approx_sign_gradient(grad, *kept)


class ErrorDecay(NamedTuple):
    """k * t * (1 - tanh(t x)^2): IR-Net's error decay estimator, the derivative of k * tanh(t x) (1909.10788).

    t, k: 0-dim; what they are at the forward pass counts.
    """

    t: Tensor
    k: Tensor

    @property
    def bends(self) -> bool:
        return True

    def values(self, x: Tensor) -> Tensor:
        return ops.sign(x)

    def derivative(self, x: Tensor) -> Tensor:
        return once(x, _slope(ops.error_decay_gradient, x, self.t, self.k))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign(x.detach()), (self.t.clone(), self.k.clone())

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.error_decay_gradient(grad, *kept)


class Fourier(NamedTuple):
    """(4 omega / pi) * sum_{i=0..n} cos((2i+1) omega x): FDA-BNN's estimator, the derivative of the Fourier series of a
    square wave (2103.00841). 0 where |x| > limit (None: only where x is infinite), and with `rising` where negative.

    n: 0-dim integer, the index of the last term; what it is at the forward pass counts. omega: in (0, pi], the angular
    frequency of the wave.
    """

    n: Tensor
    omega: float
    limit: float | None = 1.0
    rising: bool = False

    @property
    def bends(self) -> bool:
        return True

    def values(self, x: Tensor) -> Tensor:
        return ops.sign(x)

    def derivative(self, x: Tensor) -> Tensor:
        return once(x, _slope(ops.fourier_gradient, x, self.n + 1, self.omega, self.limit, self.rising))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign(x.detach()), (self.n + 1,)

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.fourier_gradient(grad, *kept, self.omega, self.limit, self.rising)


def without_scale(derivative: Tensor, scale: Tensor) -> Tensor:
    """derivative / scale: takes the weight scale alpha >= 0 out of the gradient that reaches the values.

    Where the scale is 0 (a filter of zeros), or too small for its reciprocal to be finite, the result is 0:
    the gradient of the scaled weight cannot be recovered from a product with 0, so such a filter does not learn.
    `scale` broadcasts to `derivative`.
    """
    scale = scale.detach()
    usable = scale >= torch.finfo(scale.dtype).tiny
    return torch.where(usable, derivative / torch.where(usable, scale, 1.0), 0.0)
