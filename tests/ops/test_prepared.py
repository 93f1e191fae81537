# SPDX-License-Identifier: Apache-2.0
"""Weights prepared once: the same results as the op, for inputs of any size, at every instruction set."""

from __future__ import annotations

import pytest

from _cases import Conv, epilogue, strided, words
from _tolerance import assert_exact
from bittern import ops

ISAS = pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)


@ISAS
def test_matmul_with_inputs_of_several_sizes(isa: ops.Isa) -> None:
    b, rows = words("b", 33, bits=130), epilogue("rows", 33)
    prepared = ops.PreparedMatmul(b, 130, rows, isa)
    for shape in ((5,), (), (2, 3), (0,), (40,)):
        a = words(f"a {shape}", *shape, bits=130)
        assert_exact(prepared(a), ops.binary_matmul.reference(a, b, 130, rows))
        assert_exact(prepared(strided(a)), ops.binary_matmul.reference(a, b, 130, rows))


@ISAS
@pytest.mark.parametrize("conv", [Conv(66, 9, groups=3), Conv(65, 33, pad_value=1, folded=True)], ids=str)
def test_conv_with_inputs_of_several_sizes(isa: ops.Isa, conv: Conv) -> None:
    _, w, *rest = conv.make()
    prepared = ops.PreparedConv2d(w, *rest, isa=isa)
    for batch, height, width in ((1, 6, 7), (3, 1, 1), (2, 9, 4), (0, 5, 5)):
        x = words(f"x {height}", batch, height, width, bits=conv.channels)
        assert_exact(prepared(x), ops.binary_conv2d.reference(x, w, *rest))
        assert_exact(prepared(strided(x)), ops.binary_conv2d.reference(x, w, *rest))


@ISAS
def test_later_changes_of_the_weights_do_not_reach_it(isa: ops.Isa) -> None:
    a, b = words("a", 3, bits=70), words("b", 4, bits=70)
    prepared = ops.PreparedMatmul(b, 70, isa=isa)
    expected = ops.binary_matmul.reference(a, b, 70)
    b.zero_()
    assert_exact(prepared(a), expected)


def test_without_an_instruction_set_it_takes_the_chosen_one() -> None:
    assert ops.PreparedMatmul(words("b", 4, bits=70), 70).isa is ops.chosen_isa()
    assert ops.PreparedConv2d(*Conv().make()[1:]).isa is ops.chosen_isa()
