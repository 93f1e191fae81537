# SPDX-License-Identifier: Apache-2.0
"""Estimators of signs that are torch's operations, one after another, forward and backward: no kernel of their own.

Each keeps the input and a few constants for backward, as those with a kernel do, and takes several times as long.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bittern import ops
from bittern.estimators.functions import once


class Power(NamedTuple):
    """ReSTE's (2308.06689): the derivative of sign(x) |x|^(1/o), which is steepest at 0, made finite.

    (1/o) |x|^(1/o - 1) where inner < |x| <= limit; inner^(1/o - 1), the slope from 0 to `inner`, where |x| <= inner;
    0 beyond the limit. o: 0-dim, at least 1; what it is at the forward pass counts.
    """

    o: Tensor
    inner: float
    limit: float

    @property
    def bends(self) -> bool:
        return True

    def values(self, x: Tensor) -> Tensor:
        return ops.sign.direct(x)

    def derivative(self, x: Tensor) -> Tensor:
        return once(x, self._slope(x.detach(), self.o))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign.direct(x), (self.o.clone(),)

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return self._slope(*kept).mul_(grad)

    def _slope(self, x: Tensor, o: Tensor) -> Tensor:
        size, o = x.abs(), o.to(x.dtype)
        power = size.clamp_min(self.inner).pow_(1.0 / o - 1.0)  # at `inner` it is the slope of the secant
        slope = torch.where(size <= self.inner, power, power / o)
        return torch.where(size <= self.limit, slope, 0.0)


class Triangle(NamedTuple):
    """k max(0, sqrt(2) t - t^2 |x|): RBNN's (2009.13055), of height sqrt(2) k t and reaching 0 at |x| = sqrt(2) / t.

    t, k: 0-dim; what they are at the forward pass counts.
    """

    t: Tensor
    k: Tensor

    @property
    def bends(self) -> bool:
        return True

    def values(self, x: Tensor) -> Tensor:
        return ops.sign.direct(x)

    def derivative(self, x: Tensor) -> Tensor:
        return once(x, self._slope(x.detach(), self.t, self.k))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign.direct(x), (self.t.clone(), self.k.clone())

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return self._slope(*kept).mul_(grad)

    def _slope(self, x: Tensor, t: Tensor, k: Tensor) -> Tensor:
        t, k = t.to(x.dtype), k.to(x.dtype)
        return (math.sqrt(2.0) * t - t.square() * x.abs()).clamp_min_(0.0).mul_(k)


class SwishSign(NamedTuple):
    """beta (2 - u tanh(u / 2)) / (1 + cosh(u)), u = beta x: BNN+'s (1812.11800), the derivative of its SignSwish,
    2 sigmoid(u) (1 + u (1 - sigmoid(u))) - 1. Negative beyond |u| = 2.4; 0 at infinity.
    """

    beta: float

    @property
    def bends(self) -> bool:
        return True

    def values(self, x: Tensor) -> Tensor:
        return ops.sign.direct(x)

    def derivative(self, x: Tensor) -> Tensor:
        return once(x, self._slope(x.detach()))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign.direct(x), ()

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return self._slope(*kept).mul_(grad)

    def _slope(self, x: Tensor) -> Tensor:
        # with e = exp(-|u|): tanh(|u| / 2) = (1 - e) / (1 + e) and 1 / (1 + cosh u) = 2 e / (1 + e)^2, of which nothing
        # overflows; beyond |u| = 100 the result is below 1e-40
        size = (self.beta * x).abs().clamp_max_(100.0)
        e = torch.exp(-size)
        more = 1.0 + e
        return (2.0 - size * (1.0 - e) / more) * (2.0 * self.beta * e / more.square())
