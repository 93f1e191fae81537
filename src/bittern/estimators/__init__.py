# SPDX-License-Identifier: Apache-2.0
"""Gradient estimators: what stands in for the derivative of a function that has none, as data.

An estimator is a small record: `Identity`, `Clip`, `Plateaus`, `ApproxSign`, `ErrorDecay`, `Fourier`, `Levels`, and
those of `formulas`, which have no kernel of their own: `Power`, `Triangle`, `SwishSign`.
`derivative(x)` is its formula, a tensor of the shape of x that carries no gradient itself. `binarize(x, estimator)`
computes sign(x) exactly (sign(0) = +1, never x - x.detach() tricks, whose rounding would leave the grid); backward
multiplies the incoming gradient by the derivative, in one pass of an op that has it from x, or from a mask of one bit
an element (`Clip`, `Plateaus`, `Levels`): no tensor of derivatives is kept. `binarize(x, tensor)` takes any derivative
as a tensor, `straight_through` any values.

Memory. An image with channels last stays so. Under torch.func, and where something differentiates forward, an estimator
is its formula by torch's own operations.

Second derivatives. What an estimator hands on is a product, gradient times derivative, which autograd follows
again: that is right where the derivative is constant in pieces (`Identity`, `Clip`, `Plateaus`, `Levels`), and where a
derivative is given that autograd can follow. A derivative that bends (`ApproxSign`, `ErrorDecay`, `Fourier`, all
of `formulas`) is a number here, not a function, so differentiating it is refused.

Where the weight scale goes. A layer computes y = conv(x, B) * alpha, so autograd hands B the gradient
g_B = alpha * g, where g is the gradient of the scaled weight W~ = alpha * B. A paper that states its rule as
dW = g * mask with alpha left out therefore needs dW = g_B * mask / alpha: that division is `without_scale`.
"""

from __future__ import annotations

from torch import Tensor

from bittern.estimators.errors import quantized_error
from bittern.estimators.formulas import Power, SwishSign, Triangle
from bittern.estimators.functions import (
    Estimator,
    alone,
    estimate,
    follows_formula,
    in_order,
    is_transformed,
    lies_channels_last,
    once,
    out_of_order,
    straight_through,
)
from bittern.estimators.links import linked, links
from bittern.estimators.origin import Origin, note_origin, origin_of
from bittern.estimators.records import (
    ApproxSign,
    Clip,
    ErrorDecay,
    Fourier,
    Identity,
    Levels,
    Plateaus,
    without_scale,
)
from bittern.estimators.rounding import gradient_scaled_levels
from bittern.estimators.shifted import shifted_sign

__all__ = [
    "ApproxSign",
    "Clip",
    "ErrorDecay",
    "Estimator",
    "Fourier",
    "Identity",
    "Levels",
    "Origin",
    "Plateaus",
    "Power",
    "SwishSign",
    "Triangle",
    "alone",
    "binarize",
    "estimate",
    "follows_formula",
    "gradient_scaled_levels",
    "in_order",
    "is_transformed",
    "lies_channels_last",
    "linked",
    "links",
    "note_origin",
    "once",
    "origin_of",
    "out_of_order",
    "quantized_error",
    "shifted_sign",
    "straight_through",
    "without_scale",
]


def binarize(x: Tensor, estimator: Estimator | Tensor | None = None) -> Tensor:
    """sign(x) in {-1, +1} with the derivative of an estimator of signs, or the given one.

    None: 1, the plain straight-through estimator.
    """
    if isinstance(estimator, Tensor):
        return straight_through(alone(x, Identity()), x, estimator)
    return estimate(x, Identity() if estimator is None else estimator)
