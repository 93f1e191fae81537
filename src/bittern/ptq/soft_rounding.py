# SPDX-License-Identifier: Apache-2.0
"""AdaRound's rounding: whether each weight goes up or down is learned, through a number h in [0, 1] between the two.

    W_soft = S clamp(floor(W / S) + h(V), least, most)        h(V) = clamp(sigmoid(V) (zeta - gamma) + gamma, 0, 1)
    start    h(V) = W / S - floor(W / S), so that W_soft = W within the limits
    penalty  sum (1 - |2 h(V) - 1|^b), which is 0 where all are decided
    b        falls from 20 to 2, linearly (or as half a cosine) over the iterations behind the warm-up, in which the
             penalty is not counted
    end      up where h(V) >= 1/2, that is V >= 0

zeta = 1.1 and gamma = -0.1 stretch the sigmoid, so that h arrives at 0 and 1.

Differences: the paper anneals b without saying how; BRECQ's code says cosine and falls linearly, the default here.
Source: Nagel et al., arXiv:2004.10568.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bittern.ptq.steps import Limits, dequantize, quantize, weight_limits

ZETA, GAMMA = 1.1, -0.1
FIRST_B, LAST_B = 20.0, 2.0
Decay = Literal["linear", "cosine"]


class Weight(NamedTuple):
    """A weight to round: its numbers, the step of each channel along `axis`, and how many bits it has."""

    values: Tensor
    steps: Tensor
    bits: int
    axis: int = 0

    def along(self) -> Tensor:
        """The steps, so that they combine with the values."""
        return self.steps.view([-1 if d == self.axis % self.values.ndim else 1 for d in range(self.values.ndim)])

    def nearest(self) -> Tensor:
        """The values rounded to the nearest of their grid."""
        return dequantize(quantize(self.values.detach(), self.along(), 0, weight_limits(self.bits)), self.along(), 0)

    def check(self, name: str) -> None:
        """Raises: ValueError where steps do not fit, are not positive, or values are not finite."""
        channels = self.values.shape[self.axis] if self.values.ndim else 1
        weight_limits(self.bits)
        if self.steps.shape != (channels,):
            found = list(self.steps.shape)
            raise ValueError(f"weight {name!r}: must have one step for each of {channels} channels; got {found}")
        if not bool((self.steps.isfinite() & (self.steps > 0)).all()):
            raise ValueError(f"weight {name!r}: steps must be positive and finite; got {float(self.steps.min())!r}")
        if not bool(self.values.isfinite().all()):
            wrong = int((~self.values.isfinite()).sum())
            raise ValueError(f"weight {name!r}: values must be finite; {wrong} of {self.values.numel()} are not")


class SoftRounding:
    """One weight whose rounding is learned: `logits` is V."""

    def __init__(self, weight: Weight) -> None:
        self.steps = weight.along().float()
        self.limits: Limits = weight_limits(weight.bits)
        scaled = weight.values.detach().float() / self.steps
        self.floor = scaled.floor()
        self.logits = first_logits(scaled - self.floor).requires_grad_()

    def soft(self) -> Tensor:
        """W_soft, with gradients for V."""
        return (self.floor + soft_part(self.logits)).clamp(*self.limits) * self.steps

    def codes(self) -> Tensor:
        """The integers decided, int8."""
        return (self.floor + (self.logits.detach() >= 0)).clamp(*self.limits).to(torch.int8)

    def penalty(self, b: float) -> Tensor:
        """sum (1 - |2 h - 1|^b)."""
        return (1.0 - (2.0 * soft_part(self.logits) - 1.0).abs().pow(b)).sum()


def soft_part(logits: Tensor) -> Tensor:
    """h(V)."""
    return (torch.sigmoid(logits) * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


def first_logits(fraction: Tensor) -> Tensor:
    """The V with h(V) = fraction, which lies in [0, 1]."""
    return -torch.log((ZETA - GAMMA) / (fraction - GAMMA) - 1.0)


def sharpness(done: float, decay: Decay = "linear") -> float:
    """b where `done`, 0 ... 1, of the iterations behind the warm-up are done."""
    left = 1.0 - done if decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return LAST_B + (FIRST_B - LAST_B) * left
