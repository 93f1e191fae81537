# SPDX-License-Identifier: Apache-2.0
"""Tensors of two numbers as bits without gaps, and back, at every instruction set."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from _conv_cases import generator
from _tolerance import assert_exact
from bittern import ops
from bittern.ops.flat_bits.reference import flat_bits_reference, from_flat_bits_reference, rows_of_bits_reference

ISAS = pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
SIZES = (0, 1, 7, 63, 64, 65, 257, 1000, 512 * 64 + 5)


def two_numbers(shape: tuple[int, ...], low: float) -> Tensor:
    draw = torch.rand(shape, generator=generator(str(shape)))
    return torch.where(draw < 0.5, 1.0, low)


@ISAS
@pytest.mark.parametrize("low", [-1, 0])
@pytest.mark.parametrize("n", SIZES)
def test_bits_are_those_of_the_reference_and_give_the_numbers_back(isa: ops.Isa, low: int, n: int) -> None:
    x = two_numbers((n,), low)
    bits, expected = ops.flat_bits(x, low, isa), flat_bits_reference(x, low)
    assert bits is not None
    assert expected is not None
    assert_exact(bits, expected)
    assert_exact(ops.from_flat_bits(bits, x.shape, x.stride(), low, isa), x)
    assert_exact(from_flat_bits_reference(bits, x.shape, x.stride(), low), x)


@ISAS
@pytest.mark.parametrize(("rows", "columns"), [(0, 3), (1, 1), (65, 1), (9, 16), (7, 63), (5, 64), (3, 130), (600, 9)])
def test_rows_of_bits_are_what_packing_gives(isa: ops.Isa, rows: int, columns: int) -> None:
    x = two_numbers((rows, columns), -1)
    bits = ops.flat_bits(x, -1, isa)
    assert bits is not None
    found = ops.rows_of_bits(bits, rows, columns, isa)
    assert_exact(found, rows_of_bits_reference(bits, rows, columns))
    if rows:
        assert_exact(found, ops.pack_signs.reference(x))


@ISAS
@pytest.mark.parametrize("low", [-1, 0])
def test_one_other_number_is_found(isa: ops.Isa, low: int) -> None:
    n = 64 * 512 * 3 + 7
    x = two_numbers((n,), low)
    other = (1.0 + 2.0**-23, -math.inf, math.nan, -2.0, 0.0 if low else -1.0, 1e-45)
    for place, number in zip((0, n - 1, n - 8, 4097, 7, 64 * 512), other, strict=True):
        before = x[place].item()
        x[place] = number
        assert ops.flat_bits(x, low, isa) is None
        assert flat_bits_reference(x, low) is None
        x[place] = before
    assert ops.flat_bits(x, low, isa) is not None
    zero = torch.tensor([-0.0, 0.0, 1.0])
    assert (ops.flat_bits(zero, 0, isa) is None, ops.flat_bits(zero, -1, isa) is None) == (False, True)


@ISAS
def test_the_order_is_that_of_memory(isa: ops.Isa) -> None:
    x = two_numbers((2, 5, 3, 4), -1).contiguous(memory_format=torch.channels_last)
    bits, same = ops.flat_bits(x, -1, isa), ops.flat_bits(x.permute(0, 2, 3, 1).contiguous(), -1, isa)
    assert bits is not None
    assert same is not None
    assert_exact(bits, same)
    back = ops.from_flat_bits(bits, x.shape, x.stride(), -1, isa)
    assert back.stride() == x.stride()
    assert_exact(back.contiguous(), x.contiguous())


@pytest.mark.parametrize("x", [torch.ones(4, dtype=torch.float64), torch.ones(4, 4)[:, ::2]])
def test_numbers_with_gaps_or_of_another_type_are_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"flat_bits: x must be float32 on the CPU, contiguous or channels-last"):
        ops.flat_bits(x, -1)
