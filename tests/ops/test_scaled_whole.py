# SPDX-License-Identifier: Apache-2.0
"""Products with whole numbers that are kept as 16 bits, at every instruction set."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from _conv_cases import generator
from _tolerance import assert_exact
from bittern import ops

ISAS = pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
SHAPES = ((0, 3), (3, 0), (1, 1), (5, 63), (3, 65), (64, 257), (7, 4097))


def whole(rows: int, n: int) -> Tensor:
    y = torch.randint(-32767, 32768, (rows, n), generator=generator(f"{rows}x{n}")).float()
    y.view(-1)[:4] = torch.tensor((0.0, 32767.0, -32767.0, 1.0))[: y.numel()]
    return y


@ISAS
@pytest.mark.parametrize(("rows", "n"), SHAPES)
def test_product_and_gradients_have_the_bits_of_floats(isa: ops.Isa, rows: int, n: int) -> None:
    y, factor, grad = whole(rows, n), torch.randn(n), torch.randn(rows, n)
    found = ops.scale_whole(y, factor, isa)
    assert found is not None
    out, lifted = found
    assert_exact(out, y * factor)
    assert_exact(ops.lowered(lifted), y)
    expected = ops.scaled_gradient.native(isa, grad, y, factor)
    for mine, theirs in zip(ops.scaled_gradient_of_whole(grad, lifted, factor, isa), expected, strict=True):
        assert_exact(mine, theirs)


@ISAS
@pytest.mark.parametrize("number", [0.5, 32768.0, -32768.0, math.nan, math.inf, -math.inf, 3e38, 1e-45])
@pytest.mark.parametrize("place", [0, 64, 4096])
def test_one_other_number_is_found(isa: ops.Isa, number: float, place: int) -> None:
    y = whole(3, 4097)
    y[1, place] = number
    assert ops.scale_whole(y, torch.ones(4097), isa) is None


def test_other_tensors_are_refused() -> None:
    y, factor = whole(3, 4), torch.ones(4)
    with pytest.raises(ValueError, match="scale_whole: needs contiguous"):
        ops.scale_whole(y.double(), factor)
    with pytest.raises(ValueError, match="scale_whole: needs contiguous"):
        ops.scale_whole(y.t(), torch.ones(3))
    with pytest.raises(ValueError, match="scaled_gradient_of_whole: needs contiguous"):
        ops.scaled_gradient_of_whole(y, y, factor)
