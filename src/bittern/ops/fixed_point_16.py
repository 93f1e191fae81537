# SPDX-License-Identifier: Apache-2.0
"""The logistic function and tanh of int16 numbers without a float, as gemmlowp defines them.

An int16 with i integer bits stands for raw / 2^(15 - i); results have none, so that 32767 is the largest below 1. All
functions take and give int64 tensors that hold int16 numbers. They are `fixed_point`'s for int32 with 16 bits fewer:
constants are those, divided by 2^16 and rounded.

    logistic    1 / (1 + exp(-|x|)), and 1 minus that of a negative x; 1/2 at 0
    tanh        (1 - exp(-2|x|)) / (1 + exp(-2|x|)) with the sign of x

Source: gemmlowp, fixedpoint.h (Apache-2.0), as the integer LSTM of TensorFlow Lite calls it.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from bittern.ops import fixed_point
from bittern.ops.fixed_point import rounded_shift

ONE_BITS = 15
MOST = 2**15 - 1
LEAST = -(2**15)
MOST_INTEGER_BITS = 6
"""Of an argument."""
CLAMP_BITS = 5
"""Integer bits beyond which exp of less than -32 is 0."""


def _constant(raw: int) -> int:
    """A constant of 32 bits as one of 16."""
    return int(rounded_shift(torch.tensor(raw), 16))


EXP_OF_EIGHTH, THIRD = _constant(fixed_point.EXP_OF_EIGHTH), _constant(fixed_point.THIRD)
EXP_OF_POWERS = tuple((exponent, _constant(value)) for exponent, value in fixed_point.EXP_OF_POWERS)
FORTY_EIGHT_17THS = _constant(fixed_point.FORTY_EIGHT_17THS)
THIRTY_TWO_17THS = _constant(fixed_point.THIRTY_TWO_17THS)


def doubling_high_product(a: Tensor, b: Tensor | int) -> Tensor:
    """a * b / 2^15, rounded to the nearest, halves upward, and saturated in its one overflow, -2^15 * -2^15."""
    product = a * b
    nudge = torch.where(product >= 0, 2**14, 1 - 2**14)
    return torch.div(product + nudge, 2**ONE_BITS, rounding_mode="trunc").clamp(max=MOST)


def _raised(x: Tensor, bits: int) -> Tensor:
    return (x << bits).clamp(LEAST, MOST)


def exp_of_negative(x: Tensor, integer_bits: int) -> Tensor:
    """exp(x) of x <= 0 with so many integer bits -> with none (gemmlowp's exp_on_negative_values)."""
    fraction_bits = ONE_BITS - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (x & (quarter - 1)) - quarter
    found = _exp_near_eighth(_raised(part, integer_bits))
    rest = part - x
    for exponent, value in EXP_OF_POWERS:
        if integer_bits > exponent:
            has = rest & (1 << (fraction_bits + exponent)) != 0
            found = torch.where(has, doubling_high_product(found, value), found)
    if integer_bits > CLAMP_BITS:
        found = torch.where(x < -(32 << fraction_bits), 0, found)
    return torch.where(x == 0, MOST, found)


def _exp_near_eighth(a: Tensor) -> Tensor:
    """exp(a) of a in [-1/4, 0): a Taylor series about -1/8."""
    x = a + (1 << (ONE_BITS - 3))
    square = doubling_high_product(x, x)
    cube = doubling_high_product(square, x)
    fourth = rounded_shift(doubling_high_product(square, square), 2)
    terms = rounded_shift(doubling_high_product(fourth + cube, THIRD) + square, 1)
    return (EXP_OF_EIGHTH + doubling_high_product(x + terms, EXP_OF_EIGHTH)).clamp(LEAST, MOST)


def _reciprocal_of_half(x: Tensor) -> Tensor:
    """2 / (1 + x) of x in [0, 1], with 13 bits behind the point: three steps of Newton's method."""
    total = x + MOST
    half = torch.div(total + torch.where(total >= 0, 1, -1), 2, rounding_mode="trunc")
    found = FORTY_EIGHT_17THS + doubling_high_product(half, THIRTY_TWO_17THS)
    for _ in range(3):
        error = (1 << (ONE_BITS - 2)) - doubling_high_product(half, found)
        found = found + _raised(doubling_high_product(found, error), 2)
    return found


def logistic(x: Tensor, integer_bits: int) -> Tensor:
    """1 / (1 + exp(-x)) of an argument with so many integer bits, without any."""
    of_size = _raised(_reciprocal_of_half(exp_of_negative(-x.abs(), integer_bits)), 1)
    return torch.where(x == 0, 1 << (ONE_BITS - 1), torch.where(x > 0, of_size, MOST - of_size))


def tanh(x: Tensor, integer_bits: int) -> Tensor:
    """tanh of an argument with so many integer bits, without any."""
    exp = exp_of_negative(-x.abs(), integer_bits + 1)
    of_size = _raised(_reciprocal_of_half(exp) - (1 << (ONE_BITS - 2)), 2)
    return torch.where(x == 0, 0, torch.where(x > 0, of_size, -of_size))


@cache
def logistic_table(integer_bits: int) -> Tensor:
    """int16 [65536]: `logistic` of every int16, that of x at x + 32768."""
    return logistic(torch.arange(LEAST, MOST + 1), integer_bits).to(torch.int16)


@cache
def tanh_table(integer_bits: int) -> Tensor:
    """int16 [65536]: `tanh` of every int16, that of x at x + 32768."""
    return tanh(torch.arange(LEAST, MOST + 1), integer_bits).to(torch.int16)
