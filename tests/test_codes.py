# SPDX-License-Identifier: Apache-2.0
"""Codes as data: their numbers, and every number as planes of signs."""

from __future__ import annotations

import math

import pytest
import torch

from bittern.codes import (
    Code,
    Integers,
    PerBlock,
    PerInputGroup,
    PerOutputChannel,
    PerTensor,
    Reals,
    ScaleShape,
    Signs,
    Ternary,
    odd_integers,
    symmetric,
)

CODES: tuple[Code, ...] = (
    Signs(),
    Ternary(),
    Integers(0, 1),
    Integers(0, 15),
    Integers(0, 255, zero_point=128),
    Integers(-3, 3),
    Integers(-127, 127),
    Integers(-128, 127),
    Integers(-7, 7, 2),
    Integers(-255, 255, 2),
    Integers(-5, 5, 2),
    Integers(-40000, 40000, 20000),
)
each_code = pytest.mark.parametrize("code", CODES, ids=str)


def test_facts_of_each_code() -> None:
    rows = [(list(c.values)[:3], c.levels, c.bits, c.step, c.zero_point, c.dtype) for c in CODES]
    assert rows == [
        ([-1, 1], 2, 1, 2, 0, torch.int8),
        ([-1, 0, 1], 3, 2, 1, 0, torch.int8),
        ([0, 1], 2, 1, 1, 0, torch.uint8),
        ([0, 1, 2], 16, 4, 1, 0, torch.uint8),
        ([0, 1, 2], 256, 8, 1, 128, torch.uint8),
        ([-3, -2, -1], 7, 3, 1, 0, torch.int8),
        ([-127, -126, -125], 255, 8, 1, 0, torch.int8),
        ([-128, -127, -126], 256, 8, 1, 0, torch.int8),
        ([-7, -5, -3], 8, 3, 2, 0, torch.int8),
        ([-255, -253, -251], 256, 8, 2, 0, torch.int16),
        ([-5, -3, -1], 6, 3, 2, 0, torch.int8),
        ([-40000, -20000, 0], 5, 3, 20000, 0, torch.int32),
    ]


@each_code
def test_contains_its_numbers_and_no_others(code: Code) -> None:
    numbers = torch.tensor(list(code.values), dtype=torch.float32)
    assert code.contains(numbers)
    assert code.contains(numbers.to(torch.int64))
    assert code.contains(numbers[:0])
    for wrong in (code.high + code.step, code.low - code.step, code.low + code.step / 2, math.nan, math.inf, -math.inf):
        assert not code.contains(torch.cat([numbers, torch.tensor([float(wrong)])])), wrong


def test_zero_is_a_number_of_ternary_codes_and_not_of_signs() -> None:
    zeros = torch.tensor([0.0, -0.0])
    assert Ternary().contains(zeros)
    assert not Signs().contains(zeros)


@each_code
def test_a_number_is_the_sum_of_its_planes(code: Code) -> None:
    numbers = torch.tensor(list(code.values), dtype=torch.float32)
    planes = torch.stack(list(code.to_planes(numbers)))
    assert planes.dtype == torch.bool
    assert planes.shape == (code.bits, code.levels) == (len(code.plane_factors), len(numbers))
    signs = torch.where(planes, 1.0, -1.0)
    factors = torch.tensor(code.plane_factors, dtype=torch.float32).view(-1, 1)
    total = (code.low + code.high) / 2 + code.step / 2 * (factors * signs).sum(0)
    assert total.tolist() == numbers.tolist()
    assert sum(code.plane_factors) == code.levels - 1
    assert code.spells(planes)


@each_code
def test_each_number_has_one_spelling(code: Code) -> None:
    every = torch.arange(2**code.bits)
    planes = torch.stack([(every >> i & 1).bool() for i in range(code.bits)])
    spelled = [code.spells(planes[:, i : i + 1]) for i in range(2**code.bits)]
    assert sum(spelled) == code.levels
    assert code.redundant == (not all(spelled))
    assert code.spells(planes) == all(spelled)


def test_a_ternary_zero_is_plus_then_minus() -> None:
    planes = list(Ternary().to_planes(torch.tensor([-1.0, 0.0, -0.0, 1.0])))
    assert [plane.tolist() for plane in planes] == [[False, True, True, True], [False, False, False, True]]
    assert not Ternary().spells(torch.tensor([[True, False], [True, True]]))


def test_symmetric_codes_are_their_own_mirror_image() -> None:
    for levels in range(2, 257):
        code = symmetric(levels)
        assert code.levels == levels
        assert code.low == -code.high
        assert code.step == 2 - levels % 2


def test_codes_are_equal_by_their_fields() -> None:
    assert symmetric(2) == odd_integers(1) == Signs(PerOutputChannel())
    assert symmetric(3) == Ternary()
    assert symmetric(8) == odd_integers(3) == Integers(-7, 7, 2)
    assert symmetric(5) == Integers(-2, 2)
    assert Signs(PerTensor()) != Signs()
    assert len({Signs(), Signs(), Ternary()}) == 2
    assert Reals().bits == 32
    assert repr(Signs()) == "Signs(scale=PerOutputChannel())"


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        (PerTensor(), ()),
        (PerOutputChannel(), (6, 1, 1, 1)),
        (PerInputGroup(3), (6, 2, 3, 5)),
        (PerBlock(64), (6,)),
    ],
    ids=str,
)
def test_shapes_of_scales(scale: ScaleShape, expected: tuple[int, ...]) -> None:
    weight = (6, 4, 3, 5)
    assert scale.shape(weight) == expected
    assert scale.holds(None, weight)
    assert scale.holds(torch.ones(()), weight)
    assert scale.holds(torch.ones(expected), weight)
    assert not scale.holds(torch.ones(5, *expected), weight)


@pytest.mark.parametrize("arguments", [(0, 0), (1, 0), (0, 3, 2), (0, 4, 0), (0, 4, -1)], ids=str)
def test_integers_that_are_no_grid_are_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Integers: high must lie a multiple of step above low; got low="):
        Integers(*arguments)


def test_too_few_levels_and_too_large_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="symmetric: levels must be at least 2; got 1"):
        symmetric(1)
    with pytest.raises(ValueError, match="its numbers do not fit int32"):
        _ = Integers(0, 2**32).dtype
