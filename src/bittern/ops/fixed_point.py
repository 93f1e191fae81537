# SPDX-License-Identifier: Apache-2.0
"""Arithmetic of integers alone, as gemmlowp and TensorFlow Lite define it: real factors become an int32 and a shift.

A real factor M > 0 is multiplier * 2^(shift - 31) with 2^30 <= multiplier < 2^31. All functions take and give int64
tensors that hold int32 numbers. Where int32 would overflow (a factor above 1 and a large sum) these saturate, so that
int8 ends on the right side; the result of gemmlowp's C++ is undefined there.

Sources: Jacob et al., arXiv:1712.05877; gemmlowp, fixedpoint.h and doc/quantization.md (Apache-2.0).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

ONE_BITS = 31
"""A fixed-point number without integer bits has its 1 at 2^31, which int32 just cannot hold."""
MOST = 2**31 - 1
LEAST = -(2**31)


class Factor(NamedTuple):
    """multiplier * 2^(shift - 31), of which the multiplier is an int32."""

    multiplier: int
    shift: int

    @property
    def value(self) -> float:
        return math.ldexp(self.multiplier, self.shift - ONE_BITS)


def factor_of(real: float) -> Factor:
    """The fixed-point factor nearest to a real one, halves away from zero; below 2^-32 it is 0.

    Raises: ValueError for a factor that is negative, infinite or NaN, or 2^30 and more.
    """
    if not 0.0 <= real < 2.0**30:
        raise ValueError(f"fixed point: a factor must lie in [0, 2^30); got {real!r}")
    if real == 0.0:
        return Factor(0, 0)
    fraction, shift = math.frexp(real)
    multiplier = math.floor(math.ldexp(fraction, ONE_BITS) + 0.5)
    if multiplier == 2**ONE_BITS:
        multiplier, shift = multiplier // 2, shift + 1
    return Factor(multiplier, shift) if shift >= -ONE_BITS else Factor(0, 0)


def doubling_high_product(a: Tensor, b: Tensor | int) -> Tensor:
    """a * b / 2^31, rounded to the nearest, halves upward, and saturated in its one overflow, -2^31 * -2^31.

    gemmlowp's SaturatingRoundingDoublingHighMul: it adds a half with the sign of the product and drops the rest toward
    zero, which for a negative product that lies half way is the larger number.
    """
    product = a * b
    nudge = torch.where(product >= 0, 2**30, 1 - 2**30)
    return torch.div(product + nudge, 2**ONE_BITS, rounding_mode="trunc").clamp(max=MOST)


def rounded_shift(x: Tensor, bits: Tensor | int) -> Tensor:
    """x / 2^bits, rounded to the nearest, halves away from zero (gemmlowp's RoundingDivideByPOT)."""
    bits = torch.as_tensor(bits, dtype=torch.int64)
    mask = (1 << bits) - 1
    return (x >> bits) + ((x & mask) > (mask >> 1) + (x < 0)).long()


def scaled(x: Tensor, multiplier: Tensor | int, shift: Tensor | int) -> Tensor:
    """x times a fixed-point factor: `doubling_high_product` of x * 2^shift, saturated, or `rounded_shift` of it.

    It rounds twice where the factor is below 1/2, as TensorFlow Lite does (MultiplyByQuantizedMultiplier).
    multiplier, shift: one, or any that combine with x, such as [channels, 1, 1].
    """
    shift = torch.as_tensor(shift, dtype=torch.int64)
    raised = (x << shift.clamp(min=0)).clamp(LEAST, MOST)
    high = doubling_high_product(raised, torch.as_tensor(multiplier, dtype=torch.int64))
    return rounded_shift(high, (-shift).clamp(min=0))


def scaled_once(x: Tensor, multiplier: Tensor | int, shift: Tensor | int) -> Tensor:
    """x times a fixed-point factor, rounded once to the nearest, halves upward, as ruy does (apply_multiplier.cc)."""
    bits = ONE_BITS - torch.as_tensor(shift, dtype=torch.int64)
    return (x * torch.as_tensor(multiplier, dtype=torch.int64) + (1 << (bits - 1))) >> bits


def rounded_away(x: Tensor) -> Tensor:
    """The nearest whole number, halves away from zero, as C's round."""
    whole = x.trunc()
    return whole + torch.where((x - whole).abs() >= 0.5, torch.copysign(torch.ones_like(x), x), torch.zeros_like(x))


# -- functions of numbers without floats ----------------------------------------------------------------------

EXP_OF_EIGHTH, THIRD = 1895147668, 715827883
"""exp(-1/8) and 1/3, with 31 bits behind the point."""
EXP_OF_POWERS = (
    (-2, 1672461947),
    (-1, 1302514674),
    (0, 790015084),
    (1, 290630308),
    (2, 39332535),
    (3, 720401),
    (4, 242),
)
"""(e, exp(-2^e) with 31 bits behind the point)."""
EXP_INTEGER_BITS = 5
EXP_FRACTION_BITS = ONE_BITS - EXP_INTEGER_BITS
FORTY_EIGHT_17THS, THIRTY_TWO_17THS = 1515870810, -1010580540
"""48/17 and -32/17 with 29 bits behind the point."""


def _saturated_shift(x: Tensor, bits: int) -> Tensor:
    return (x << bits).clamp(LEAST, MOST)


def exp_of_negative(x: Tensor) -> Tensor:
    """exp(x) of x <= 0 with 26 bits behind the point -> with 31 bits behind it (gemmlowp's exp_on_negative_values).

    exp of the part of x in [-1/4, 0) is a Taylor series about -1/8; the rest is a product of exp(-2^e).
    """
    quarter = 1 << (EXP_FRACTION_BITS - 2)
    part = (x & (quarter - 1)) - quarter
    found = _exp_near_eighth(_saturated_shift(part, EXP_INTEGER_BITS))
    rest = part - x
    for exponent, value in EXP_OF_POWERS:
        has = rest & (1 << (EXP_FRACTION_BITS + exponent)) != 0
        found = torch.where(has, doubling_high_product(found, value), found)
    return torch.where(x == 0, MOST, found)


def _exp_near_eighth(a: Tensor) -> Tensor:
    """exp(a) of a in [-1/4, 0), all with 31 bits behind the point."""
    x = a + (1 << (ONE_BITS - 3))
    square = doubling_high_product(x, x)
    cube = doubling_high_product(square, x)
    fourth = rounded_shift(doubling_high_product(square, square), 2)
    terms = rounded_shift(doubling_high_product(fourth + cube, THIRD) + square, 1)
    return EXP_OF_EIGHTH + doubling_high_product(x + terms, EXP_OF_EIGHTH)


def reciprocal_of_one_plus(x: Tensor) -> Tensor:
    """1 / (1 + x) of x in [0, 1], both with 31 bits behind the point (gemmlowp's one_over_one_plus_x_for_x_in_0_1).

    Three steps of Newton's method for the reciprocal of (1 + x) / 2, from 48/17 - 32/17 of it.
    """
    total = x + MOST
    half = torch.div(total + torch.where(total >= 0, 1, -1), 2, rounding_mode="trunc")
    found = FORTY_EIGHT_17THS + doubling_high_product(half, THIRTY_TWO_17THS)
    for _ in range(3):
        error = (1 << (ONE_BITS - 2)) - doubling_high_product(half, found)
        found = found + _saturated_shift(doubling_high_product(found, error), 2)
    return _saturated_shift(found, 1)
