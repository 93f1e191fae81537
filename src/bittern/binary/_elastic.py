# SPDX-License-Identifier: Apache-2.0
"""BiT's elastic inputs: a sign(v), or a {0, 1}, whose scale a is learned (2205.13016)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bittern.estimators import binarize, straight_through
from bittern.quantizer import Quantized

LEAST = 1e-5
"""No scale of inputs is smaller."""


def positive(a: Tensor) -> Tensor:
    """a, and `LEAST` where it is smaller."""
    return torch.where(a > LEAST, a, LEAST)


def learned(a: Tensor, x: Tensor, most: int = 1) -> Tensor:
    """The scale of an input x, whose gradient is LSQ's: divided by sqrt(n most), n the numbers of x, most the level."""
    share = torch.full((), (max(1, x.numel()) * most) ** -0.5, dtype=x.dtype, device=x.device)
    return positive(straight_through(a, a, share))


def elastic_signs(v: Tensor, a: Tensor) -> Quantized:
    """a sign(v); dv = g 1{|v| <= a}, da = sum g sign(v)."""
    inside = (v.detach().abs() <= a.detach()).to(v.dtype)
    return Quantized(binarize(v, inside / a.detach()), a)


def elastic_levels(v: Tensor, a: Tensor, values: Tensor, low: int = 0, high: int = 1) -> Quantized:
    """a times the values given, which count from q = v / a = low up.

    dv = g 1{low <= q <= high}; with an offset a low beside it, da = sum g (round(q) - q) inside, g low below and g high
    above.
    """
    ratio = v / a
    inside = ((ratio.detach() >= low) & (ratio.detach() <= high)).to(v.dtype)
    return Quantized(straight_through(values, ratio, inside), a)


def start_of(v: Tensor, kind: Literal["signed", "unsigned"], most: int = 1) -> Tensor:
    """a on the first batch: 2 mean |v|, unsigned 4 mean |v|, over the root of the highest level."""
    size: Tensor = v.abs().mean() * (2.0 if kind == "signed" else 4.0)
    return size / math.sqrt(most)


class Elastic(nn.Module):
    """One operand of attention: a sign(x + b), b [channels] for x [..., channels], or without channels a {0, 1}.

    Its scale starts on the first batch in training; whether it has is part of the state.
    """

    started: Tensor

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.shift = None if channels is None else nn.Parameter(torch.zeros(channels))
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        self._known = False  # asking a buffer takes a GPU's time, and no compiler traces it

    def forward(self, x: Tensor) -> Quantized:
        v = x if self.shift is None else x + self.shift
        self._start(v)
        asked = self.scale.requires_grad and torch.is_grad_enabled() and not torch.compiler.is_exporting()
        a = learned(self.scale, x) if asked else positive(self.scale)
        if self.shift is not None:
            return elastic_signs(v, a)
        # round_half_even(clip(q, 0, 1)) is 1 exactly where q > 1/2, and 0 for NaN
        return elastic_levels(v, a, (v.detach() / a.detach() > 0.5).to(v.dtype))

    def _start(self, v: Tensor) -> None:
        if not self.training or self._known or not v.numel():
            return
        self._known = True
        with torch.no_grad():
            self.started.fill_(True)
            self.scale.copy_(start_of(v, "unsigned" if self.shift is None else "signed"))

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:
        super()._load_from_state_dict(*arguments, **named)
        self._known = bool(self.started)
