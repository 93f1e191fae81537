# SPDX-License-Identifier: Apache-2.0
"""Fixed-point arithmetic against vectors of gemmlowp's definition, and against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from bittern.ops.fixed_point import (
    Factor,
    doubling_high_product,
    exp_of_negative,
    factor_of,
    reciprocal_of_one_plus,
    rounded_away,
    rounded_shift,
    scaled,
    scaled_once,
)

EDGES = [0, 1, -1, 2, -2, 3, 12345, -12345, 10**6, -(10**6), 2**30, -(2**30), 2**31 - 1, -(2**31)]


def long(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


@pytest.mark.parametrize(
    ("real", "multiplier", "shift"),
    [
        (0.0072474273418460, 1992157658, -7),
        (0.5, 2**30, 0),
        (0.25, 2**30, -1),
        (0.999999, 2147481501, 0),
        (0.123456789, 2120971485, -3),
        (1.0, 2**30, 1),
        (3.0, 3 * 2**29, 2),
        (0.0, 0, 0),
        (1.0 - 2.0**-33, 2**30, 1),  # rounds up to 2^31, which is halved
        (2.0**-33, 0, 0),
        (2.0**-32, 2**30, -31),
    ],
)
def test_factors(real: float, multiplier: int, shift: int) -> None:
    assert factor_of(real) == Factor(multiplier, shift)
    if multiplier:
        assert abs(factor_of(real).value / real - 1) <= 2.0**-31


@pytest.mark.parametrize("real", [-1.0, math.inf, math.nan, 2.0**30])
def test_factors_that_do_not_fit(real: float) -> None:
    with pytest.raises(ValueError, match=r"a factor must lie in \[0, 2\^30\)"):
        factor_of(real)


def test_vectors_of_gemmlowp() -> None:
    x = long(12345, -12345, 10**6, -(10**6), 2**31 - 1)
    assert doubling_high_product(x, 1992157658)[0] == 11452
    assert scaled(x, 1992157658, -7).tolist() == [89, -89, 7247, -7247, 15563732]
    x, bits = long(5, -5, 6, -6, 10, -10), long(1, 1, 2, 2, 3, 3)
    assert rounded_shift(x, bits).tolist() == [3, -3, 2, -2, 1, -1]  # 10 / 8 = 1.25
    assert rounded_shift(long(10, -10), 2).tolist() == [3, -3]


def test_doubling_high_product_is_what_its_fraction_rounds_to() -> None:
    for a in EDGES:
        for b in EDGES:
            product = Fraction(a * b, 2**31)
            nearest = math.floor(product + Fraction(1, 2))
            found = int(doubling_high_product(long(a), b))
            if product == Fraction(2**31):
                assert found == 2**31 - 1
            else:
                assert found == nearest, (a, b)


def test_shifts_round_halves_away_from_zero() -> None:
    for x in (*range(-40, 41), *EDGES):
        for bits in (0, 1, 2, 5, 31):
            quotient = abs(Fraction(x, 2**bits))
            assert int(rounded_shift(long(x), bits)) == (1 if x >= 0 else -1) * math.floor(quotient + Fraction(1, 2))


def test_scaled_rounds_twice_and_scaled_once_rounds_once() -> None:
    factor = factor_of(0.0225930)
    x = torch.arange(-6000, 6000)
    exact = [Fraction(int(v) * factor.multiplier, 1 << (31 - factor.shift)) for v in x]
    once = torch.tensor([math.floor(value + Fraction(1, 2)) for value in exact])
    twice = scaled(x, *factor)
    assert torch.equal(scaled_once(x, *factor), once)
    different = (twice != once).nonzero().flatten().tolist()
    assert different  # where the first rounding makes a half of what was just below one
    assert all(abs(abs(exact[i] % 1) - Fraction(1, 2)) < Fraction(1, 32) for i in different)


def test_a_factor_above_one_goes_up_first() -> None:
    assert scaled(long(7, -7), *factor_of(3.0)).tolist() == [21, -21]
    assert scaled_once(long(7, -7), *factor_of(3.0)).tolist() == [21, -21]


def test_each_channel_has_its_factor() -> None:
    x = long(1000, 1000).view(1, 2, 1)
    factors = [factor_of(0.5), factor_of(0.001)]
    multiplier, shift = (long(*values).view(2, 1) for values in zip(*factors, strict=True))
    assert scaled(x, multiplier, shift).flatten().tolist() == [500, 1]


def test_exp() -> None:
    x = torch.cat([torch.arange(0, 2**31, 1_234_567), long(0, 1, 2**24 - 1, 2**24, 2**31 - 1)])
    wanted = torch.exp(-x.double() / 2**26)
    missing = (1 / 8) ** 5 / 120  # the first term that its series leaves out, where it is largest
    assert float((exp_of_negative(-x).double() / 2**31 - wanted).abs().max()) < missing
    assert int(exp_of_negative(long(0))) == 2**31 - 1


def test_reciprocal() -> None:
    x = torch.cat([torch.arange(0, 2**31, 1_234_567), long(0, 2**31 - 1)])
    wanted = 1 / (1 + x.double() / 2**31)
    assert float((reciprocal_of_one_plus(x).double() / 2**31 - wanted).abs().max()) < 2.0**-28


def test_rounding_away_from_zero() -> None:
    x = torch.tensor([0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, -0.49999997, 3.0, 8388609.0, -8388609.0])
    assert rounded_away(x).tolist() == [1, -1, 2, 3, -3, 0, 0, 3, 8388609, -8388609]
