# SPDX-License-Identifier: Apache-2.0
"""What methods share that round to whole steps: steps that are learned, and rounding with its gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern.codes import Code, Integers, PerOutputChannel, PerTensor
from bittern.estimators import straight_through

LEAST_STEP = 1e-8
"""What a smaller step counts as."""
LEAST_BITS, MOST_BITS = 2, 8


def signed(bits: int, by_filter: bool) -> Integers:
    """-2^(bits - 1) ... 2^(bits - 1) - 1, the numbers of two's complement."""
    return Integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, scale=PerOutputChannel() if by_filter else PerTensor())


def learned(step: Tensor, share: float) -> Tensor:
    """The size of a learned step, at least `LEAST_STEP`, whose gradient is multiplied by `share` on its way to it."""
    size = step.detach().abs().clamp(min=LEAST_STEP)
    return straight_through(size, step, torch.where(step.detach() < 0, -share, share).to(step.dtype))


def rounded(position: Tensor, numbers: Tensor, code: Code) -> Tensor:
    """`numbers`, what `position` is rounded and clipped to, with the gradient of a position strictly between the ends.

    With position = v / s, autograd then finds of numbers * s: dv = 1 there and 0 elsewhere, ds = number - v / s there,
    and the number itself elsewhere.
    """
    real = position.detach()
    return straight_through(numbers, position, ((real > code.low) & (real < code.high)).to(real.dtype))


def nearest(position: Tensor, code: Code) -> Tensor:
    """The number next to each position, ties to even; 0 for NaN. It carries no gradient."""
    return torch.round(position.detach().nan_to_num(nan=0.0).clamp(code.low, code.high))


def features(x: Tensor) -> int:
    """Numbers of one sample, or of a row of a linear layer."""
    return max(1, math.prod(x.shape[1:]))


@torch.no_grad()
def set_where_sound(parameter: Tensor, value: Tensor) -> None:
    """Set what is a positive number: neither zeros nor NaN say how large a step should be."""
    parameter.copy_(torch.where(value.isfinite() & (value > 0.0), value, parameter))
