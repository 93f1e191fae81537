# SPDX-License-Identifier: Apache-2.0
"""Activations with learned shifts per channel: ReActNet's (Liu et al. 2020, arXiv 2003.03488), PokeBNN's (2112.00133).

`torch.nn.Hardtanh` and `torch.nn.PReLU` serve the other papers as they are.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.estimators import shifted_sign, straight_through
from bittern.nn._check import check_floating

INITIAL_SLOPE = 0.25
"""Slope of the negative side at the start, as in the authors' codes (and torch.nn.PReLU)."""
INITIAL_EXPONENT = -3.0
"""Of the slope of `PowerOfTwoRPReLU` at the start, as in the authors' code."""


class RSign(nn.Module):
    """Sign with a learned shift per channel.

    x [batch, channels, *space] -> the same shape, values in {-1, +1}.
    Forward: y = sign(x + shift_c), shift 0 at the start; sign(0) = +1.
    Backward: dx = g * max(0, 2 - 2|x + shift_c|), dshift_c = the sum of dx over the channel.
    Differences: the paper writes the threshold alpha_c = -shift_c; the sum is the authors' code.

    Raises: ValueError when x does not have `channels` channels; TypeError for an input that is not floating point.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        _check_channels("RSign", channels)
        self.channels = channels
        self.shift = nn.Parameter(torch.zeros(channels))
        """[channels]."""

    def forward(self, x: Tensor) -> Tensor:
        _check_input("RSign", x, self.channels)
        return shifted_sign(x, self.shift)

    def extra_repr(self) -> str:
        return str(self.channels)


class ShiftedPReLU(nn.Module, ABC):
    """PReLU with a slope per channel between two learned shifts; how its slopes are learned is left to subclasses.

    x [batch, channels, *space] -> the same shape.
    Formula: y = PReLU_c(x - before_c) + after_c, PReLU_c(t) = t where t > 0, else slope_c * t; shifts 0 at the start.
    Order of operations, which packed inference repeats: three roundings, fl(fl(slope * fl(x - before)) + after); the
    middle one only where t <= 0; never a fused multiply-add.
    Differences: the authors' codes add their first shift, which is -before.

    learned: name of the parameter [channels] that slopes are made of; initial: its start.
    Raises: ValueError when x does not have `channels` channels; TypeError for an input that is not floating point.
    """

    def __init__(self, channels: int, learned: str, initial: float) -> None:
        super().__init__()
        _check_channels(type(self).__name__, channels)
        self.channels = channels
        self.before = nn.Parameter(torch.zeros(channels))
        """[channels]."""
        self.register_parameter(learned, nn.Parameter(torch.full((channels,), initial)))
        self.after = nn.Parameter(torch.zeros(channels))
        """[channels]."""

    @abstractmethod
    def slopes(self) -> Tensor:
        """[channels], with their gradient."""

    def forward(self, x: Tensor) -> Tensor:
        _check_input(type(self).__name__, x, self.channels)
        return rprelu(x, self.before, self.slopes(), self.after)

    def extra_repr(self) -> str:
        return str(self.channels)


class RPReLU(ShiftedPReLU):
    """`ShiftedPReLU` whose slopes are learned, 0.25 at the start.

    Formula: y = PReLU_c(x - before_c) + after_c. The paper's names are gamma, beta, zeta for before, slope, after.
    Source: ReActNet, arXiv 2003.03488.
    """

    slope: nn.Parameter
    """beta [channels]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, "slope", INITIAL_SLOPE)

    def slopes(self) -> Tensor:
        return self.slope


class PowerOfTwoRPReLU(ShiftedPReLU):
    """`ShiftedPReLU` whose slopes are powers of two, so that a circuit shifts where others multiply.

    Formula: slope_c = 2^round(e_c), ties to even; e = -3 at the start. The product with it is exact unless subnormal.
    Backward: round counts as the identity, dslope/de = ln 2 * slope; the rest by autograd.
    Source: A&B BNN, arXiv 2403.03739; Ruichen0424/AB-BNN Network/BNN.py.
    """

    exponent: nn.Parameter
    """e [channels]."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, "exponent", INITIAL_EXPONENT)

    @property
    def slope(self) -> Tensor:
        """2^round(e) [channels], to the bit."""
        # of float32 torch's powers need not be exact
        values = torch.exp2(self.exponent.detach().round().double()).to(self.exponent.dtype)
        return straight_through(values, self.exponent, values * math.log(2.0))

    def slopes(self) -> Tensor:
        return self.slope


class DPReLU(nn.Module):
    """Dynamic PReLU: two learned slopes per channel, with learned shifts before and after them.

    x [batch, channels, *space] -> the same shape.
    Formula: t = x - before_c; y = rise_c * t where t >= 0, else fall_c * t, minus after_c. At the start rise = 1,
    fall = 0.25, shifts 0.
    Differences: none from the authors' code but float32, where they have bfloat16.
    Source: PokeBNN, arXiv 2112.00133.

    Raises: ValueError when x does not have `channels` channels; TypeError for an input that is not floating point.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        _check_channels("DPReLU", channels)
        self.channels = channels
        self.before = nn.Parameter(torch.zeros(channels))
        self.rise = nn.Parameter(torch.ones(channels))
        self.fall = nn.Parameter(torch.full((channels,), INITIAL_SLOPE))
        self.after = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        _check_input("DPReLU", x, self.channels)
        return dprelu(x, self.before, self.rise, self.fall, self.after)

    def extra_repr(self) -> str:
        return str(self.channels)


def rprelu(x: Tensor, before: Tensor, slope: Tensor, after: Tensor) -> Tensor:
    """PReLU(x - before) + after for x [batch, channels, *space] and vectors [channels], as in `ShiftedPReLU`."""
    return F.prelu(x - per_channel(before, x), slope) + per_channel(after, x)


def dprelu(x: Tensor, before: Tensor, rise: Tensor, fall: Tensor, after: Tensor) -> Tensor:
    """rise * t where t >= 0, else fall * t, minus after, with t = x - before: the arithmetic of `DPReLU`."""
    t = x - per_channel(before, x)
    return torch.where(t >= 0, per_channel(rise, x), per_channel(fall, x)) * t - per_channel(after, x)


def per_channel(vector: Tensor, x: Tensor) -> Tensor:
    """View a vector [channels] so that it broadcasts to x [batch, channels, *space]."""
    return vector.view(1, -1, *(1,) * (x.ndim - 2))


def _check_channels(owner: str, channels: int) -> None:
    if channels < 1:
        raise ValueError(f"{owner}: needs at least one channel; got {channels}")


def _check_input(owner: str, x: Tensor, channels: int) -> None:
    check_floating(owner, x)
    if x.ndim < 2 or x.shape[1] != channels:
        raise ValueError(f"{owner}: expected an input [batch, {channels}, *space]; got {list(x.shape)}")
