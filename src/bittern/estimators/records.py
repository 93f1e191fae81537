# SPDX-License-Identifier: Apache-2.0
"""The estimators: formulas as records."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern import ops
from bittern.estimators.functions import once


class Identity(NamedTuple):
    """1 everywhere: the plain straight-through estimator."""

    @property
    def bends(self) -> bool:
        return False

    def values(self, x: Tensor) -> Tensor:
        return ops.sign.direct(x)

    def derivative(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign.direct(x), ()

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return grad


class Clip(NamedTuple):
    """1 where |x| <= limit (strict: |x| < limit), else 0: the clipped straight-through estimator."""

    limit: float = 1.0
    strict: bool = False

    @property
    def bends(self) -> bool:
        return False

    def values(self, x: Tensor) -> Tensor:
        return ops.sign.direct(x)

    def derivative(self, x: Tensor) -> Tensor:
        x = x.detach()
        inside = x.abs() < self.limit if self.strict else x.abs() <= self.limit
        return inside.to(x.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        values, mask = ops.clipped_sign.direct(x, self.limit, self.strict)
        return values, (mask,)

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.masked_gradient.direct(grad, kept[0])


class Plateaus(NamedTuple):
    """`inside` where |x| <= 1 (strict: |x| < 1), else `outside` (None: 0): numbers of the filters of a weight.

    inside, outside: [out, 1, ...] for x [out, ...].
    """

    inside: Tensor
    outside: Tensor | None = None
    strict: bool = False

    @property
    def bends(self) -> bool:
        return False

    def values(self, x: Tensor) -> Tensor:
        return ops.sign.direct(x)

    def derivative(self, x: Tensor) -> Tensor:
        inside = Clip(strict=self.strict).derivative(x) > 0.0
        return torch.where(inside, self.inside, 0.0 if self.outside is None else self.outside).to(x.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        values, mask = ops.clipped_sign.direct(x, 1.0, self.strict)
        slopes = (self.inside,) if self.outside is None else (self.inside, self.outside)
        return values, (mask, *slopes)

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        mask, inside, *outside = kept
        if not outside:
            return ops.masked_gradient.direct(grad, mask).mul_(inside)
        chosen = ops.masked_gradient.direct(torch.ones_like(grad), mask)
        # one of the two products is 0, so their sum is exact; torch.where takes ten times as long
        slope = chosen * inside
        return slope.add_(chosen.neg_().add_(1.0).mul_(outside[0])).mul_(grad)


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
        return ops.clipped_levels.direct(x, self.bits)[0]

    def derivative(self, x: Tensor) -> Tensor:
        x = x.detach()
        return self.top * ((x >= 0.0) & (x <= 1.0)).to(x.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        values, mask = ops.clipped_levels.direct(x, self.bits)
        return values, (mask,)

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.masked_gradient.direct(grad, kept[0], self.top)


def _slope(op: ops.Op[Tensor], x: Tensor, *constants: Any) -> Tensor:
    """What the op multiplies a gradient by, by its formula."""
    return op.reference(torch.ones_like(x), x.detach(), *constants)


class ApproxSign(NamedTuple):
    """max(0, 2 - 2|x|): the derivative of Bi-Real Net's piecewise quadratic ApproxSign (1808.00278)."""

    @property
    def bends(self) -> bool:
        return True

    def values(self, x: Tensor) -> Tensor:
        return ops.sign.direct(x)

    def derivative(self, x: Tensor) -> Tensor:
        return once(x, _slope(ops.approx_sign_gradient, x))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign.direct(x), ()

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.approx_sign_gradient.direct(grad, *kept)


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
        return ops.sign.direct(x)

    def derivative(self, x: Tensor) -> Tensor:
        return once(x, _slope(ops.error_decay_gradient, x, self.t, self.k))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign.direct(x), (self.t.clone(), self.k.clone())

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.error_decay_gradient.direct(grad, *kept)


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
        return ops.sign.direct(x)

    def derivative(self, x: Tensor) -> Tensor:
        return once(x, _slope(ops.fourier_gradient, x, self.n + 1, self.omega, self.limit, self.rising))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return ops.sign.direct(x), (self.n + 1,)

    def backward(self, grad: Tensor, *kept: Tensor) -> Tensor:
        return ops.fourier_gradient.direct(grad, *kept, self.omega, self.limit, self.rising)


def without_scale(derivative: Tensor, scale: Tensor) -> Tensor:
    """derivative / scale: takes the weight scale alpha >= 0 out of the gradient that reaches the values.

    Where the scale is 0 (a filter of zeros), or too small for its reciprocal to be finite, the result is 0:
    the gradient of the scaled weight cannot be recovered from a product with 0, so such a filter does not learn.
    `scale` broadcasts to `derivative`.
    """
    scale = scale.detach()
    usable = scale >= torch.finfo(scale.dtype).tiny
    return torch.where(usable, derivative / torch.where(usable, scale, 1.0), 0.0)
