# SPDX-License-Identifier: Apache-2.0
"""The logistic function and tanh of int16: constants, steps worked by hand, symmetry, and the distance to the reals."""

from __future__ import annotations

import math

import pytest
import torch

from bittern.ops import fixed_point_16 as fixed

ALL = torch.arange(fixed.LEAST, fixed.MOST + 1)


def test_constants_are_the_nearest_of_15_bits() -> None:
    assert round(math.exp(-1 / 8) * 2**15) == fixed.EXP_OF_EIGHTH
    assert round(2**15 / 3) == fixed.THIRD
    assert [value for _, value in fixed.EXP_OF_POWERS] == [round(math.exp(-(2.0**e)) * 2**15) for e in range(-2, 5)]
    assert (round(48 / 17 * 2**13), round(-32 / 17 * 2**13)) == (fixed.FORTY_EIGHT_17THS, fixed.THIRTY_TWO_17THS)


def test_exp_of_minus_one_by_hand() -> None:
    """-1 with 3 integer bits is -4096: -1/4 of it by the series about -1/8, then once exp(-1/4) and once exp(-1/2).

    part = -1024 -> -8192 of 2^15; x = -8192 + 4096 = -4096; x^2 = 512; x^3 = -64; x^4 = 8, a quarter of it 2;
    (2 - 64) / 3 = -21; (-21 + 512) / 2 = 246 (245.5, away from 0); exp(-1/8) = 28918, times -4096 + 246 = -3850 is
    -3398 (-3397.7): 25520. rest = -1024 + 4096 = 3072 = 2048 + 1024: times 25520 is 19875, times 19875 is 12055.
    """
    series = torch.tensor([-1024])
    assert fixed.exp_of_negative(series, 3).tolist() == [25520]
    assert fixed.exp_of_negative(torch.tensor([-4096]), 3).tolist() == [12055]
    assert fixed.exp_of_negative(torch.tensor([0]), 3).tolist() == [32767]


@pytest.mark.parametrize("bits", range(1, 7))
def test_logistic(bits: int) -> None:
    found = fixed.logistic(ALL, bits)
    real = (ALL.double() / 2 ** (15 - bits)).sigmoid() * 2**15
    assert float((found - real).abs().max()) < 8
    positive = found[fixed.MOST + 2 :]
    assert torch.equal(positive + found[1 : fixed.MOST + 1].flip(0), torch.full_like(positive, fixed.MOST))
    assert int(found[-fixed.LEAST]) == 2**14
    assert torch.equal(fixed.logistic_table(bits).long(), found)


@pytest.mark.parametrize("bits", range(7))
def test_tanh(bits: int) -> None:
    found = fixed.tanh(ALL, bits)
    real = (ALL.double() / 2 ** (15 - bits)).tanh() * 2**15
    assert float((found - real).abs().max()) < 13
    assert torch.equal(found[fixed.MOST + 2 :], -found[1 : fixed.MOST + 1].flip(0))
    assert int(found[-fixed.LEAST]) == 0
    assert torch.equal(fixed.tanh_table(bits).long(), found)
