# SPDX-License-Identifier: Apache-2.0
"""How autograd goes past a function that has no derivative: by a given tensor, or as an estimator says."""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from bittern.estimators.origin import note_origin
from bittern.ops._transforms import transform_is_active


class Estimator(Protocol):
    """Values on a grid, and the derivative that stands in for theirs."""

    @property
    def bends(self) -> bool:
        """Whether the derivative has a derivative of its own, which is refused; then `backward` needs x."""

    def values(self, x: Tensor) -> Tensor:
        """What comes out, without a gradient; where the derivative bends, of x alone and whenever it is called."""

    def derivative(self, x: Tensor) -> Tensor:
        """The formula, elementwise."""

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The values, and what `backward` needs beside x."""

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        """grad times the derivative; kept: x where it bends, and what `forward` gave."""


class _StraightThrough(torch.autograd.Function):
    """`values` forward; to x the gradient times a given derivative (None: 1) backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, derivative: Tensor | None) -> Tensor:
        if derivative is not None:
            ctx.save_for_backward(derivative)
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        kept = ctx.saved_tensors
        return None, grads[0] * kept[0] if kept else grads[0], None


class _InsideTransforms(torch.autograd.Function):
    """The same in the form that torch.func asks for, whose calls take several times as long."""

    @staticmethod
    def forward(values: Tensor, x: Tensor, derivative: Tensor | None) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        if inputs[2] is not None:
            ctx.save_for_backward(inputs[2])

    backward = _StraightThrough.backward


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


def is_transformed() -> bool:
    """Whether torch.func or forward-mode differentiation goes on, where an estimator is its formula."""
    return not torch.compiler.is_compiling() and transform_is_active()


def follows_formula(x: Tensor) -> bool:
    """Whether operations of torch's serve x better than a function with a backward of its own."""
    return is_transformed() or not (x.requires_grad and torch.is_grad_enabled())


def straight_through(values: Tensor, x: Tensor, derivative: Tensor | None = None) -> Tensor:
    """`values`, bit for bit, with d values / dx := derivative (None: 1), elementwise.

    values: of the shape of x; derivative: too, or one that broadcasts to it.
    """
    function = _InsideTransforms if is_transformed() else _StraightThrough
    result: Tensor = function.apply(values.detach(), x, derivative)  # type: ignore[no-untyped-call]
    return result


def lies_channels_last(x: Tensor) -> bool:
    """Whether x is an image with channels last: then `in_order` is its numbers as they lie in memory."""
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def in_order(x: Tensor, last: bool) -> Tensor:
    """x, or where the channels lie last a view of it with these behind."""
    return x.permute(0, 2, 3, 1) if last else x


def out_of_order(x: Tensor, last: bool) -> Tensor:
    """The inverse of `in_order`."""
    return x.permute(0, 3, 1, 2) if last else x


class _Estimated(torch.autograd.Function):
    """The values of an estimator in the layout of x; backward as the estimator says."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, estimator: Estimator) -> Tensor:
        last = lies_channels_last(x)
        values, kept = estimator.forward(in_order(x, last))
        ctx.estimator, ctx.last = estimator, last
        ctx.save_for_backward(*((x, *kept) if estimator.bends else kept))
        if estimator.bends:
            note_origin(ctx, partial(_values, estimator), x)
        return out_of_order(values, last)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        estimator, kept, grad = ctx.estimator, ctx.saved_tensors, grads[0]
        if not torch.is_grad_enabled():
            return _multiplied(ctx, grad, kept), None
        with torch.no_grad():  # the result may be differentiated again; the same bits
            slope = _multiplied(ctx, torch.ones_like(grad), kept)
        return grad * (once(kept[0], slope) if estimator.bends else slope), None


def _multiplied(ctx: Any, grad: Tensor, kept: tuple[Tensor, ...]) -> Tensor:
    """The gradient times the derivative, in the order of memory."""
    if ctx.estimator.bends:
        kept = (in_order(kept[0], ctx.last), *kept[1:])
    result: Tensor = ctx.estimator.backward(in_order(grad, ctx.last), *kept)
    return out_of_order(result, ctx.last)


def estimate(x: Tensor, estimator: Estimator) -> Tensor:
    """The values of an estimator, whose gradient is that of x times its derivative."""
    if is_transformed():
        return straight_through(estimator.values(x.detach()), x, estimator.derivative(x))
    if not (x.requires_grad and torch.is_grad_enabled()):
        return alone(x, estimator)
    result: Tensor = _Estimated.apply(x, estimator)  # type: ignore[no-untyped-call]
    return result


def alone(x: Tensor, estimator: Estimator) -> Tensor:
    """The values where nothing asks for a gradient; one operator in an exported graph."""
    x = x.detach()
    return estimator.values(x) if torch.compiler.is_exporting() else _values(estimator, x)


def _values(estimator: Estimator, x: Tensor) -> Tensor:
    """The values in the layout of x."""
    last = lies_channels_last(x)
    return out_of_order(estimator.values(in_order(x, last)), last)
