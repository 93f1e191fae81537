# SPDX-License-Identifier: Apache-2.0
"""The meaning of the gradients of a sign in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern.ops.sign.reference import sign_reference
from bittern.ops.sign_slopes.arguments import FourierArguments


def approx_sign_slope(x: Tensor) -> Tensor:
    """max(0, 2 - 2|x|)."""
    return (2.0 - 2.0 * x.abs()).clamp_min(0.0)


def error_decay_slope(x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    """k t (1 - tanh(t x)^2)."""
    return k * t * (1.0 - torch.tanh(t * x).square())


def fourier_slope(x: Tensor, terms: Tensor, omega: float, limit: float | None = None) -> Tensor:
    """(4 omega / pi) * sum_{i = 0 ... terms - 1} cos((2i + 1) omega x), 0 where |x| > limit or x is not finite.

    Evaluated in closed form, with theta = omega |x|: the sum is sin(2 terms theta) / (2 sin theta), and `terms` at
    theta = 0. Near a multiple of pi the quotient loses all digits. The sum changes its sign with every pi, so theta
    is taken to the nearest multiple k pi, and the result times (-1)^k.
    """
    distance = x.abs()
    inside = distance.isfinite() if limit is None else (distance <= limit) & distance.isfinite()
    theta = omega * torch.where(inside, distance, 0.0)
    turns = torch.round(theta / math.pi)
    theta = (theta - turns * math.pi).abs()
    count = terms.to(theta.dtype)
    total = torch.where(theta == 0.0, count, torch.sin(2.0 * count * theta) / (2.0 * torch.sin(theta)))
    total = torch.where(turns % 2.0 == 0.0, total, -total)
    return torch.where(inside, (4.0 * omega / math.pi) * total, 0.0)


def approx_sign_gradient_reference(grad: Tensor, x: Tensor) -> Tensor:
    """grad times the slope."""
    return (grad * approx_sign_slope(x)).contiguous()


def error_decay_gradient_reference(grad: Tensor, x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    """grad times the slope."""
    return (grad * error_decay_slope(x, t, k)).contiguous()


def fourier_gradient_reference(a: FourierArguments) -> Tensor:
    """grad times the slope."""
    slope = fourier_slope(a.x, a.terms, a.omega, a.limit)
    slope = slope.clamp_min(0.0) if a.rising else slope
    slope = slope if a.wave is None else slope + a.wave * torch.cos(a.x)
    return (a.grad * slope).contiguous()


def noisy_sign_reference(x: Tensor, noise: Tensor, wave: Tensor) -> Tensor:
    """sign(x) + (noise + wave * sin(x))."""
    return (sign_reference(x) + (noise + wave * torch.sin(x))).contiguous()
