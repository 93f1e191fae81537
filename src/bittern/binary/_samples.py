# SPDX-License-Identifier: Apache-2.0
"""Signs of inputs whose gradient is taken at the input divided by the standard deviation of its sample.

The sign is that of x itself: dividing by a positive number keeps every sign except where it underflows.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bittern import ops
from bittern.estimators import (
    ApproxSign,
    Estimator,
    alone,
    binarize,
    in_order,
    is_transformed,
    lies_channels_last,
    note_origin,
    once,
    out_of_order,
    straight_through,
)

EPSILON = 1e-5
"""Added to each variance, as ReCU's authors do."""


def check_samples(owner: str, x: Tensor) -> None:
    """Raises: ValueError for samples of one value, which have no variance."""
    if math.prod(x.shape[1:]) < 2:
        raise ValueError(
            f"{owner}: standardizes each sample, which needs at least 2 values; got an input {list(x.shape)}; "
            "keep this layer in full precision"
        )


def spread_of_samples(x: Tensor, estimator: Estimator) -> Tensor:
    """sign(x), whose gradient is that of the estimator at x / sqrt(var + epsilon), which is differentiated."""
    standard = x * _inverse(x)
    return straight_through(ops.sign(x.detach()), standard, estimator.derivative(standard))


def sample_sign(owner: str, x: Tensor, *, training: bool) -> Tensor:
    """The same with ApproxSign and a kernel; in eval mode, and for an empty batch, ApproxSign at x itself.

    Raises: ValueError for samples of one value.
    """
    if not training or x.shape[0] == 0:
        return binarize(x, ApproxSign())
    check_samples(owner, x)
    if is_transformed():
        return spread_of_samples(x, ApproxSign())
    result: Tensor = _StandardSign.apply(x)  # type: ignore[no-untyped-call]
    return result


class _StandardSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.last = lies_channels_last(x)
        values, statistics = ops.standard_sign.direct(in_order(x, ctx.last), EPSILON)
        ctx.save_for_backward(x, statistics)
        note_origin(ctx, partial(alone, estimator=ApproxSign()), x)
        return out_of_order(values, ctx.last)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, statistics = ctx.saved_tensors
        if torch.is_grad_enabled():  # the result may be differentiated again
            return _followed(grads[0], x)
        grad, x = in_order(grads[0], ctx.last), in_order(x, ctx.last)
        return out_of_order(ops.standard_sign_gradient.direct(grad, x, statistics), ctx.last)


def _inverse(x: Tensor) -> Tensor:
    """1 / sqrt(var + epsilon) of each sample."""
    over = tuple(range(1, x.ndim))
    return torch.rsqrt(x.var(over, keepdim=True) + EPSILON)


def _followed(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient by operations that autograd follows, but for the slope, which has no derivative."""
    over = tuple(range(1, x.ndim))
    centered = x - x.mean(over, keepdim=True)
    inv = _inverse(x)
    standard = x * inv
    d = grad * once(x, ApproxSign().derivative(standard.detach()))
    return d * inv - centered * (d * x).sum(over, keepdim=True) * inv**3 / (x[0].numel() - 1)
