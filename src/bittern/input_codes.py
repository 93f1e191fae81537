# SPDX-License-Identifier: Apache-2.0
"""What a method makes of an input, as data: signs, levels, whole steps, int8 by rows, planes, the input itself, ones.

A code says how numbers follow from a real input, in the order of operations that training, packed models and exports
share, and on which grid of `bittern.codes` they lie. `Quantizer.input_code` gives one, or one for each term.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from bittern import ops
from bittern.codes import Code, Integers, Ones, Reals, Signs, odd_integers


class InputScale(Enum):
    """Input scales that depend on the input and are therefore computed again at run time.

    Means by `ops.mean_magnitude` and `ops.mean_of_sample` run native when packed; torch's own as torch adds them.
    """

    NONE = "none"
    PER_SAMPLE = "per_sample"
    """mean |x| over everything but the batch."""
    SPATIAL = "spatial"
    """mean |x| over the channels of each pixel, box-averaged over each receptive field by the layer."""

    def mean(self, x: Tensor) -> Tensor:
        """mean |x| of x [batch, channels, *space], in the order that packed models repeat; NONE has none.

        -> [batch, 1, ...], or of SPATIAL [batch, 1, *space], not averaged yet.
        """
        mean = ops.mean_magnitude(x)
        return ops.mean_of_sample(mean) if self is InputScale.PER_SAMPLE else mean

    def residual(self, x: Tensor) -> Tensor:
        """x - mean |x| * sign(x), with the mean of `mean`: what signs of that size leave of x."""
        mean = self.mean(x)
        return torch.where(x >= 0, x - mean, x + mean)


class SignCode(NamedTuple):
    """Input code: value = +1 where R_order >= threshold, else -1; R_0 = x, R_(i+1) = R_i - mean |R_i| * sign(R_i).

    The means are those of `scale`, which is the mean |R_order|. An order above 0 has no threshold.
    """

    threshold: Tensor | None = None
    """[in_channels]; None means 0."""
    scale: InputScale = InputScale.NONE
    order: int = 0
    """How many planes of signs were taken off x before."""

    @property
    def has_scale(self) -> bool:
        """Whether the scale depends on the input."""
        return self.scale is not InputScale.NONE

    @property
    def grid(self) -> Code:
        """The numbers that it gives."""
        return Signs()


class LevelsCode(NamedTuple):
    """Input code: one of 2^bits evenly spaced levels between `low` and low + `width`.

    level = round_half_even(clip(t, 0, 1) * (2^bits - 1)), t = (x - low) / width, or x without these two. A difference,
    a quotient and a product, each rounded: the one order of operations. NaN is level 0.
    value = level, or where signed 2 level - (2^bits - 1): odd numbers about 0, as {-3, -1, 1, 3}.
    """

    bits: int
    low: Tensor | None = None
    """0-dim, or one for each channel that broadcasts to the input, with `width`: the input at level 0."""
    width: Tensor | None = None
    """0-dim: from there to the highest level."""
    signed: bool = False

    @property
    def grid(self) -> Code:
        """The numbers that it gives."""
        top = 2**self.bits - 1
        return odd_integers(self.bits) if self.signed else Integers(0, top)

    @property
    def top(self) -> float:
        """The highest level."""
        return float(2**self.bits - 1)

    def position(self, x: Tensor) -> Tensor:
        """t: 0 at the lowest level, 1 at the highest."""
        return x if self.low is None or self.width is None else (x - self.low) / self.width

    def values(self, x: Tensor) -> Tensor:
        """The numbers, which carry no gradient."""
        level = torch.round(self.position(x.detach()).nan_to_num(nan=0.0).clamp(0.0, 1.0) * self.top)
        return 2.0 * level - self.top if self.signed else level


class StepsCode(NamedTuple):
    """Input code: one of 2^bits whole numbers, by how many steps x lies away from 0, or from `origin`.

    number = round_half_even(clip((x - origin) / step, low, high)), low = -zero, high = 2^bits - 1 - zero: a difference
    where there is an origin, and a quotient, each rounded: the one order of operations. NaN is 0. Outside an image
    lies the number 0, which is a 0 of x where there is no origin.
    """

    bits: int
    step: Tensor
    """0-dim, above 0: what one step stands for."""
    zero: int = 0
    """How many numbers lie below 0: 0 for 0 ... 2^bits - 1, 2^(bits - 1) for those of two's complement."""
    origin: Tensor | None = None
    """0-dim: the input at the number 0; None means 0."""

    @property
    def grid(self) -> Code:
        """The numbers that it gives."""
        return Integers(-self.zero, 2**self.bits - 1 - self.zero)

    def position(self, x: Tensor) -> Tensor:
        """How many steps, before they are clipped and rounded."""
        return (x if self.origin is None else x - self.origin) / self.step

    def values(self, x: Tensor) -> Tensor:
        """The numbers, which carry no gradient."""
        return self.rounded(self.position(x.detach()))

    def rounded(self, position: Tensor) -> Tensor:
        """The numbers at some positions, which carry no gradient."""
        low, high = -self.zero, 2**self.bits - 1 - self.zero
        return torch.round(position.detach().nan_to_num(nan=0.0).clamp(low, high))


class RowCode(NamedTuple):
    """Input code of linear layers: int8 with a scale of each row, both computed at run time.

    With m = max(max |x|, 1e-5) over the row: value = clip(round_half_even(x * (127 / m)), -128, 127), -128 for NaN;
    scale m / 127 [rows, 1]. A row that holds NaN or infinity has a scale that is neither finite.
    """

    @property
    def grid(self) -> Code:
        """The numbers that it gives."""
        return Integers(-ROW_TOP - 1, ROW_TOP)

    def largest(self, x: Tensor) -> Tensor:
        """m of rows x [..., features] -> [..., 1]."""
        return x.detach().abs().amax(-1, keepdim=True).clamp(min=LEAST_ROW)

    def values(self, x: Tensor) -> Tensor:
        """The numbers, which carry no gradient."""
        numbers = torch.round(x.detach() * (ROW_TOP / self.largest(x))).nan_to_num(nan=-ROW_TOP - 1.0)
        return numbers.clamp(-ROW_TOP - 1, ROW_TOP)

    def scale(self, x: Tensor) -> Tensor:
        """What each row's numbers are multiplied by."""
        return self.largest(x) / ROW_TOP


ROW_TOP, LEAST_ROW = 127, 1e-5
"""Of `RowCode`: the largest number, and the least that a row's largest |x| counts as."""


class MultibitCode(NamedTuple):
    """Input code of linear layers: the signs of one of the planes whose scaled sum is nearly a row (bittern.multibit).

    The scales of all rows [rows, 1] are found with them, at run time.
    """

    planes: int
    """How many there are."""
    plane: int
    """Which of them this is, the one of the largest scale first."""
    cycles: int
    refined: bool = False

    @property
    def grid(self) -> Code:
        """The numbers that it gives."""
        return Signs()


class WholeCode(NamedTuple):
    """Input code: whole numbers of steps: value = clip(round_half_even(x / step), low, high), 0 for NaN; scale = step.

    Products are those of whole numbers that lie in floats, of inputs padded with 0: `WholeCode(-127, 127, step)` is
    int8 without its lowest number.
    """

    low: int
    high: int
    step: Tensor | float
    """0-dim, above 0."""

    @property
    def grid(self) -> Code:
        """The numbers that it gives."""
        return Integers(self.low, self.high)

    def values(self, x: Tensor) -> Tensor:
        """The numbers, which carry no gradient."""
        step = self.step.detach() if isinstance(self.step, Tensor) else self.step
        return torch.round(x.detach() / step).nan_to_num(nan=0.0).clamp(self.low, self.high) + 0.0  # one 0 of both


class RealCode(NamedTuple):
    """Input code: value = x, or x * gain of its channel. The input stays real, as where weights alone have few bits.

    Padding is then 0, and the accumulator is a sum of real numbers, rounded as torch rounds it.
    """

    gain: Tensor | None = None
    """[in_channels]; None means 1."""
    rounded: str = ""
    """The name of a format of floats that x is rounded to before, which no packed program does; "": none."""

    @property
    def grid(self) -> Reals:
        """Any number."""
        return Reals()


class OnesCode(NamedTuple):
    """Input code: value = +1, whatever x is. Its scale, 0-dim, is an offset of the input."""

    @property
    def grid(self) -> Code:
        """The numbers that it gives."""
        return Ones()


InputCode = SignCode | LevelsCode | StepsCode | RowCode | WholeCode | MultibitCode | RealCode | OnesCode
