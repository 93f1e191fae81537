# SPDX-License-Identifier: Apache-2.0
"""How latent weights start: each rule fills a fresh weight [out_channels, in_channels / groups, *kernel] in place.

All draw from torch's default generator. `fan_in` is the number of weights of one output, `fan_out` out_channels times
the kernel's taps, as in torch.nn.init.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Start = Callable[[Tensor], None]
"""Fills the weight that it is given."""


@dataclass(frozen=True, slots=True)
class TorchUniform:
    """U(-b, b), b = 1 / sqrt(fan_in): the start of torch.nn.Conv2d and torch.nn.Linear."""

    def __call__(self, w: Tensor) -> None:
        bound = fan_in(w) ** -0.5
        _fill(w, torch.empty_like(w).uniform_(-bound, bound))


@dataclass(frozen=True, slots=True)
class Uniform:
    """U(-bound, bound). Raises: ValueError unless 0 < bound < infinity."""

    bound: float

    def __post_init__(self) -> None:
        _check_positive("Uniform: bound", self.bound)

    def __call__(self, w: Tensor) -> None:
        _fill(w, torch.empty_like(w).uniform_(-self.bound, self.bound))


@dataclass(frozen=True, slots=True)
class WideUniform:
    """U(-b, b), b = max(sqrt(3 / fan_in), least). Raises: ValueError unless 0 < least < infinity."""

    least: float

    def __post_init__(self) -> None:
        _check_positive("WideUniform: least", self.least)

    def __call__(self, w: Tensor) -> None:
        bound = max(math.sqrt(3.0 / max(fan_in(w), 1)), self.least)
        _fill(w, torch.empty_like(w).uniform_(-bound, bound))


@dataclass(frozen=True, slots=True)
class Normal:
    """N(0, std^2). Raises: ValueError unless 0 < std < infinity."""

    std: float

    def __post_init__(self) -> None:
        _check_positive("Normal: std", self.std)

    def __call__(self, w: Tensor) -> None:
        _fill(w, torch.empty_like(w).normal_(0.0, self.std))


@dataclass(frozen=True, slots=True)
class HeNormal:
    """N(0, 2 / fan), fan = fan_in or fan_out (He et al. 2015, arXiv 1502.01852). Raises: ValueError for another fan."""

    fan: Literal["in", "out"] = "in"

    def __post_init__(self) -> None:
        if self.fan not in ("in", "out"):
            raise ValueError(f"HeNormal: fan must be 'in' or 'out'; got {self.fan!r}")

    def __call__(self, w: Tensor) -> None:
        fan = fan_in(w) if self.fan == "in" else fan_out(w)
        _fill(w, torch.empty_like(w).normal_(0.0, math.sqrt(2.0 / fan)))


@dataclass(frozen=True, slots=True)
class RandomSigns:
    """-1 or +1, each with chance 1/2."""

    def __call__(self, w: Tensor) -> None:
        _fill(w, torch.randint_like(w, 2) * 2.0 - 1.0)


@dataclass(frozen=True, slots=True)
class GlorotNormal:
    """N(0, 2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""

    def __call__(self, w: Tensor) -> None:
        _fill(w, torch.empty_like(w).normal_(0.0, math.sqrt(2.0 / (fan_in(w) + fan_out(w)))))


def fan_in(w: Tensor) -> int:
    """Weights of one output."""
    return math.prod(w.shape[1:])


def fan_out(w: Tensor) -> int:
    """Output channels times the kernel's taps."""
    return w.shape[0] * math.prod(w.shape[2:])


def _fill(w: Tensor, drawn: Tensor) -> None:
    with torch.no_grad():
        w.copy_(drawn)


def _check_positive(what: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise ValueError(f"{what} must be positive and finite; got {value}")
