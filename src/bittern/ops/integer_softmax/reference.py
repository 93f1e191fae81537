# SPDX-License-Identifier: Apache-2.0
"""The meaning of `integer_softmax` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.fixed_point import (
    Factor,
    doubling_high_product,
    exp_of_negative,
    reciprocal_of_one_plus,
    rounded_shift,
)

SUM_INTEGER_BITS = 12
"""Of the sum of the exponentials: up to 4,095 answers."""
LEAST, MOST = -128, 127


def exponentials(below: Tensor, factor: Factor, least: int) -> Tensor:
    """exp of differences to the largest, at most 0, with 31 bits behind the point; those below `least` as `least`."""
    return exp_of_negative(doubling_high_product(below.clamp(min=least) << factor.shift, factor.multiplier))


def _bits(x: Tensor) -> Tensor:
    """How many bits a number from 1 to 2^32 - 1 has."""
    return torch.frexp(x.double()).exponent.long()


def integer_softmax_reference(x: Tensor, factor: Factor, least: int) -> Tensor:
    """factor: beta * scale * 2^26; differences to the largest below `least` count as 0."""
    below = x.long() - x.long().amax(1, keepdim=True)
    counts = below >= least
    exp = exponentials(below, factor, least)
    total = torch.where(counts, rounded_shift(exp, SUM_INTEGER_BITS), 0).sum(1, keepdim=True)
    bits = _bits(total)
    over_one = bits - (32 - SUM_INTEGER_BITS)
    reciprocal = reciprocal_of_one_plus((total << (32 - bits)) - 2**31)
    found = rounded_shift(doubling_high_product(reciprocal, exp), over_one + 31 - 8) + LEAST
    return torch.where(counts, found.clamp(LEAST, MOST), LEAST).to(torch.int8)
