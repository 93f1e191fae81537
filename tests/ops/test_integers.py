# SPDX-License-Identifier: Apache-2.0
"""Native steps on int8: every instruction set gives the integers of the reference, whatever the sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from _conv_cases import generator
from bittern import ops
from bittern.deploy.kinds.integer.means import factor_of_mean
from bittern.ops import IntegerEnds, IntegerGeometry, IntegerMeanRule, IntegerPoolRule, IntegerSum
from bittern.ops.fixed_point import Factor, factor_of
from bittern.ops.integer_conv.cpu import Ending, rounded_twice
from bittern.ops.integer_recurrent import (
    CellEnds,
    GateProduct,
    IntegerCell,
    PreparedIntegerRecurrent,
    integer_recurrent_reference,
)
from bittern.ops.integer_recurrent.arguments import GATES, GRU, LSTM

ISAS = pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)


def int8(*shape: int) -> Tensor:
    """Any int8, the ends often."""
    drawn = torch.randint(-140, 141, shape, generator=generator(str(shape)))
    return drawn.clamp(-128, 127).to(torch.int8)


def rows(out: int, products: int, large: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Bias, multiplier and shift of each output, such that results fill int8; large: also factors above 1."""
    g = generator(f"{out} {products}")
    bias = torch.randint(-20000, 20001, (out,), generator=g).int()
    factors = [factor_of(2.0 ** (-8 - 4 * torch.rand((), generator=g).item()) / products**0.5) for _ in range(out)]
    if large:
        factors[0], factors[-1] = factor_of(3.7), Factor(2**31 - 1, 30)
    else:
        factors[0], factors[-1] = Factor(2**30, 0), Factor(2**30, -31)
    multiplier, shift = (torch.tensor(numbers, dtype=torch.int32) for numbers in zip(*factors, strict=True))
    return bias, multiplier, shift


GEOMETRIES = [
    # channels, out, kernel, size, geometry
    (1, 1, (1, 1), (1, 1), IntegerGeometry()),
    (3, 8, (3, 3), (9, 7), IntegerGeometry((2, 2), (0, 1, 0, 1))),
    (1, 64, (10, 4), (49, 10), IntegerGeometry((2, 2), (1, 1, 4, 5))),
    (16, 40, (3, 3), (6, 5), IntegerGeometry((1, 1), (1, 1, 1, 1))),
    (7, 17, (2, 3), (8, 9), IntegerGeometry((1, 2), (2, 0, 0, 3), (2, 2))),
    (6, 9, (3, 1), (5, 6), IntegerGeometry((1, 1), (0, 0, 1, 1), (1, 1), 3)),
    (4, 8, (3, 3), (5, 6), IntegerGeometry((1, 1), (1, 1, 1, 1), (1, 1), 4)),
    (65, 33, (1, 1), (1, 23), IntegerGeometry()),
    (257, 31, (1, 1), (1, 1), IntegerGeometry()),
    (8, 8, (3, 3), (7, 9), IntegerGeometry((1, 1), (1, 1, 1, 1), (1, 1), 8)),  # depthwise, several pixels a vector
    (4, 4, (2, 3), (6, 5), IntegerGeometry((2, 1), (2, 2, 1, 0), (1, 2), 4)),
    (5, 5, (3, 3), (7, 9), IntegerGeometry((1, 1), (1, 1, 1, 1), (1, 1), 5)),
    (24, 24, (3, 3), (9, 20), IntegerGeometry((2, 2), (0, 1, 0, 1), (1, 1), 24)),
    (16, 16, (1, 1), (3, 3), IntegerGeometry((1, 1), (0, 0, 0, 0), (1, 1), 16)),
    (3, 4, (1, 1), (2, 2), IntegerGeometry((1, 1), (3, 0, 0, 4))),  # windows in the border alone
    (12, 72, (3, 3), (7, 5), IntegerGeometry((1, 1), (1, 1, 1, 1))),  # several panels, and a unit
    (8, 160, (1, 1), (1, 25), IntegerGeometry((1, 1), (0, 0, 0, 0), (1, 1), 2)),
    (144, 144, (3, 3), (5, 9), IntegerGeometry((1, 1), (1, 1, 1, 1), (1, 1), 144)),  # nine vectors come again
    (48, 48, (5, 5), (6, 11), IntegerGeometry((1, 1), (2, 2, 2, 2), (1, 1), 48)),
    (67, 67, (3, 3), (4, 5), IntegerGeometry((1, 1), (1, 1, 1, 1), (1, 1), 67)),
    (128, 128, (3, 3), (5, 6), IntegerGeometry((2, 2), (1, 1, 1, 1), (1, 1), 128)),
    (32, 32, (3, 2), (150, 40), IntegerGeometry((1, 1), (1, 0, 1, 1), (2, 1), 32)),  # several bands of rows
]


@ISAS
@pytest.mark.parametrize("case", GEOMETRIES, ids=str)
def test_a_convolution_gives_the_integers_of_the_reference(isa: ops.Isa, case: tuple) -> None:
    channels, out, kernel, size, geometry = case
    w, x = int8(out, channels // geometry.groups, *kernel), int8(2, channels, *size)
    for number, (zero, once, large, bias) in enumerate(
        ((-128, False, False, True), (127, True, False, True), (3, False, True, True), (-7, True, True, False))
    ):
        ends = IntegerEnds(zero, -5 * number, once, -128 + number, 127 - 8 * number)
        numbers = rows(out, w[0].numel(), large)
        given = (numbers[0] if bias else None, *numbers[1:])
        expected = ops.integer_conv_reference(x, w, *given, ends, geometry)
        found = ops.PreparedIntegerConv(w, *given, ends, geometry, isa)(x)
        assert torch.equal(found, expected), ends
    assert expected.unique().numel() > 1 or expected.numel() < 16


def powers(out: int, shift: int) -> tuple[Tensor, Tensor]:
    """Multiplier and shift of factors 2^(shift - 1): many products lie halfway between whole numbers."""
    return torch.full((out,), 2**30, dtype=torch.int32), torch.full((out,), shift, dtype=torch.int32)


@ISAS
@pytest.mark.parametrize("groups", [1, 48])
@pytest.mark.parametrize("once", [False, True])
def test_halves_round_as_the_reference_rounds_them(isa: ops.Isa, groups: int, once: bool) -> None:
    geometry = IntegerGeometry((1, 1), (1, 1, 1, 1), (1, 1), groups)
    w, x = int8(48, 48 // groups, 3, 3), int8(1, 48, 7, 9)
    for shift in (-3, -5, -9, -14):
        for zero, bias in ((0, 0), (-128, 2**12 + 1)):
            ends = IntegerEnds(zero, 7, once)
            given = torch.full((48,), bias, dtype=torch.int32), *powers(48, shift)
            expected = ops.integer_conv_reference(x, w, *given, ends, geometry)
            assert torch.equal(ops.PreparedIntegerConv(w, *given, ends, geometry, isa)(x), expected), (shift, zero)


@ISAS
def test_every_ending_gives_the_integers_of_the_reference(isa: ops.Isa) -> None:
    """Which one it is depends on the largest sums and factors; channels by themselves have their own code."""
    seen = set()
    for groups in (1, 20):
        geometry = IntegerGeometry((1, 1), (1, 1, 1, 1), (1, 1), groups)
        w, x = int8(20, 20 // groups, 3, 3), int8(1, 20, 7, 9)
        for once in (False, True):
            for real in (1e-4, 1.7, 300.0, 2.0**16, 2.0**29):
                factors = [factor_of(real if channel % 3 == 0 else 2e-4) for channel in range(20)]
                pair = [torch.tensor(numbers, dtype=torch.int32) for numbers in zip(*factors, strict=True)]
                ends = IntegerEnds(3, -100, once, -120, 127)
                given = int8(20).int() * 1000, *pair
                conv = ops.PreparedIntegerConv(w, *given, ends, geometry, isa)
                expected = ops.integer_conv_reference(x, w, *given, ends, geometry)
                assert torch.equal(conv(x), expected), (groups, once, real)
                seen.add(conv.ending)
    assert seen == set(Ending) - {Ending.ROUNDED_TWICE_ANY}  # test_sums_of_more_than_30_bits_are_exact has that


@ISAS
@pytest.mark.parametrize("case", GEOMETRIES, ids=str)
def test_weights_of_4_bits_take_half_the_bytes_and_give_the_same(isa: ops.Isa, case: tuple) -> None:
    channels, out, kernel, size, geometry = case
    w, x = int8(out, channels // geometry.groups, *kernel), int8(2, channels, *size)
    few = (w.int() >> 4).to(torch.int8)
    few.view(-1)[:2] = torch.tensor([-8, 7])[: few.numel()]
    given, ends = rows(out, few[0].numel() * 16, False), IntegerEnds(5, -3, True)
    conv, wide = (ops.PreparedIntegerConv(v, *given, ends, geometry, isa) for v in (few, few.clamp(max=6) + 100))
    assert torch.equal(conv(x), ops.integer_conv_reference(x, few, *given, ends, geometry))
    if few.shape[1] > 1:
        assert conv.weights.numel() * 2 <= wide.weights.numel() + 64 * geometry.groups * -(
            -out // geometry.groups // 16
        )


@ISAS
def test_sums_of_more_than_30_bits_are_exact(isa: ops.Isa) -> None:
    """The vectors of factors would overflow: twice 2^30 and more."""
    w, x = torch.full((2, 1, 1, 1), 1, dtype=torch.int8), int8(1, 1, 2, 2)
    bias = torch.tensor([2**31 - 300, -(2**31) + 300], dtype=torch.int32)
    for shift in (0, -1, -20):
        given = bias, torch.tensor([2**31 - 1, 2**30 + 1]).int(), torch.tensor([shift, shift]).int()
        ends = IntegerEnds(0, 0)
        expected = ops.integer_conv_reference(x, w, *given, ends, IntegerGeometry())
        assert torch.equal(ops.PreparedIntegerConv(w, *given, ends, isa=isa)(x), expected)


@ISAS
def test_outputs_without_a_weight_are_constants(isa: ops.Isa) -> None:
    w, x = torch.zeros(4, 2, 1, 1, dtype=torch.int8), int8(1, 2, 3, 3)
    w[3] = 1
    bias = torch.tensor([2**30, -(2**31) + 1, 77, 5], dtype=torch.int32)
    given = bias, torch.tensor([2**31 - 1, 2**30, 2**30 + 9, 2**30]).int(), torch.tensor([-24, -26, 0, 0]).int()
    for ends in (IntegerEnds(-128, 127), IntegerEnds(0, -128, low=-128, high=126)):
        expected = ops.integer_conv_reference(x, w, *given, ends, IntegerGeometry())
        assert torch.equal(ops.PreparedIntegerConv(w, *given, ends, isa=isa)(x), expected)


@ISAS
def test_no_samples_and_many(isa: ops.Isa) -> None:
    w, given = int8(5, 6, 3, 3), rows(5, 54, False)
    ends, geometry = IntegerEnds(4, -4), IntegerGeometry((1, 1), (1, 1, 1, 1))
    conv = ops.PreparedIntegerConv(w, *given, ends, geometry, isa)
    assert conv(int8(0, 6, 4, 4)).shape == (0, 5, 4, 4)
    x = int8(33, 6, 61, 59)  # more than is laid out at once
    assert torch.equal(conv(x), ops.integer_conv_reference(x, w, *given, ends, geometry))


@ISAS
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000])
def test_a_sum_gives_the_integers_of_the_reference(isa: ops.Isa, count: int) -> None:
    a, b = int8(1, count), int8(count, 1).T
    for own, low in ((factor_of(2.0**-20 * 1.4), -128), (Factor(2**30, -17), -3), (factor_of(1.5), -128)):
        rule = IntegerSum(-128, 4, -100, factor_of(0.19), Factor(2**30, 0), own, low, 120)
        found = ops.integer_add(a, b, rule, isa)
        assert torch.equal(found, ops.integer_add_reference(a, b, rule))


@ISAS
def test_all_pairs_of_int8_add_as_the_reference(isa: ops.Isa) -> None:
    every = torch.arange(-128, 128).to(torch.int8)
    a, b = every[:, None].expand(256, 256).contiguous(), every.expand(256, 256).contiguous()
    for rule in (
        IntegerSum(-17, 4, -128, factor_of(0.1978), factor_of(0.5), factor_of(2.0**-19 * 1.0624)),
        IntegerSum(-128, 127, 0, factor_of(0.5), factor_of(0.25), factor_of(2.0**-19)),  # halves
        IntegerSum(3, -128, 20, factor_of(0.125), factor_of(0.5), factor_of(2.0**-18), -100, 90),
        IntegerSum(-128, -128, -128, factor_of(0.499), factor_of(0.31), factor_of(2.0**-17 * 0.99)),
        IntegerSum(0, 0, 0, factor_of(0.499), factor_of(0.31), factor_of(2.0**-15)),
    ):
        expected = ops.integer_add_reference(a, b, rule)
        assert torch.equal(ops.integer_add(a, b, rule, isa), expected)
        assert expected.unique().numel() > 60


@ISAS
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("channels", [1, 16, 67])
def test_a_pool_gives_the_integers_of_the_reference(isa: ops.Isa, average: bool, channels: int) -> None:
    x = int8(2, channels, 7, 9)
    for kernel, stride, padding in (
        ((7, 9), (1, 1), (0,) * 4),
        ((2, 3), (2, 2), (1, 2, 1, 0)),
        ((1, 1), (1, 2), (0,) * 4),
    ):
        rule = IntegerPoolRule(average, kernel, stride, padding, -100, 100)
        assert torch.equal(ops.integer_pool(x, rule, isa), ops.integer_pool_reference(x, rule))


@ISAS
@pytest.mark.parametrize("channels", [1, 64, 131])
def test_a_mean_of_images_gives_the_integers_of_the_reference(isa: ops.Isa, channels: int) -> None:
    for size in ((1, 1), (7, 7), (20, 31)):
        x = int8(2, channels, *size)
        for real, low in ((1.0, -128), (2.7, -50)):
            rule = IntegerMeanRule(-7, 12, factor_of_mean(real, size[0] * size[1]), low, 120)
            assert torch.equal(ops.integer_mean(x, rule, isa), ops.integer_mean_reference(x, rule))


def test_the_sum_of_many_pixels_is_exact() -> None:
    x = torch.full((1, 3, 300, 301), -128, dtype=torch.int8)
    rule = IntegerMeanRule(127, 0, factor_of_mean(0.25, 300 * 301))
    assert torch.equal(ops.integer_mean(x, rule), ops.integer_mean_reference(x, rule))


@ISAS
@pytest.mark.parametrize("channels", [1, 3, 4, 65])
def test_real_images_become_the_integers_of_the_reference(isa: ops.Isa, channels: int) -> None:
    x = torch.randn(2, channels, 5, 77, generator=generator("real")) * 3
    x[0, 0, 0, :8] = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.25, -0.25, 1e30, -0.0, 12.75])
    for scale, zero in ((0.5, 0), (0.0173, -128), (1e-30, 127)):
        expected = ops.integer_quantize_reference(x, scale, zero)
        quantize = ops.PreparedIntegerQuantize(scale, zero, isa)
        layouts = (
            x,
            x.contiguous(memory_format=torch.channels_last),
            x.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2),
        )
        for images in layouts:
            assert torch.equal(quantize(images), expected)
    assert ops.integer_quantize_reference(x, 0.5, 0)[0, 0, 0, :7].tolist() == [0, 127, -128, 1, -1, 127, 0]


def test_integers_become_the_reals_of_the_reference() -> None:
    x = torch.arange(-128, 128).to(torch.int8).repeat(2)[:-1]
    for scale, zero in ((0.1, -128), (3.7e-5, 9)):
        assert torch.equal(
            ops.PreparedIntegerDequantize(scale, zero)(x), ops.integer_dequantize_reference(x, scale, zero)
        )


def test_a_mean_rounds_halves_away_from_zero() -> None:
    x = torch.tensor([[[[1, 2], [-1, -2]]]], dtype=torch.int8)
    rule = IntegerPoolRule(True, (1, 2), (1, 1))
    assert ops.integer_pool(x, rule).flatten().tolist() == [2, -2]


def test_a_table_gives_its_entries() -> None:
    table, x = int8(256), torch.arange(-128, 128).to(torch.int8).repeat(3)[:-1]
    assert torch.equal(ops.integer_table(x, table), ops.integer_table_reference(x, table))
    assert torch.equal(ops.integer_table(x, table)[:256], table)


@pytest.mark.parametrize("answers", [1, 2, 12, 1001])
def test_softmax_gives_the_integers_of_the_reference(answers: int) -> None:
    x = int8(5, answers)
    for factor, least in ((Factor(1476210432, 24), -124), (Factor(2011586560, 20), -255), (Factor(2**30, 22), 0)):
        found = ops.PreparedIntegerSoftmax(factor, least)(x)
        assert torch.equal(found, ops.integer_softmax_reference(x, factor, least))


def gate_product(rows: int, columns: int, zero: int, seed: int, way: Ending) -> GateProduct:
    """Gates that fill int16, and some that leave it; they are scaled in this way."""
    g = generator(f"{rows} {columns} {seed}")
    factors = [factor_of(2.0 ** (-4 - 4 * torch.rand((), generator=g).item())) for _ in range(rows)]
    multiplier, shift = (torch.tensor(numbers, dtype=torch.int32) for numbers in zip(*factors, strict=True))
    bias = torch.randint(-20000, 20001, (rows,), generator=g).int()
    if way is Ending.RAISED:
        shift[::3] += (6, 20)[seed % 2]
    if way is Ending.ROUNDED_TWICE_ANY:
        bias[0], multiplier[0], shift[0] = 2**31 - 2**24, 2**31 - 1, -31
    left_out = seed % 3 == 0 and way is not Ending.ROUNDED_TWICE_ANY
    return GateProduct(int8(rows, columns), None if left_out else bias, multiplier, shift, zero)


WAYS = pytest.mark.parametrize("way", [Ending.ROUNDED_TWICE, Ending.RAISED, Ending.ROUNDED_TWICE_ANY])


@ISAS
@pytest.mark.parametrize("cell", [LSTM, GRU])
@pytest.mark.parametrize("hidden", [1, 5, 16, 33, 128])
@WAYS
def test_a_recurrent_layer(isa: ops.Isa, cell: str, hidden: int, way: Ending) -> None:
    for seed, (batch, steps, features) in enumerate([(1, 9, 3), (3, 1, 40), (4, 4, 17), (9, 5, 1), (0, 2, 2)]):
        rows = GATES[cell] * hidden
        ends = CellEnds(
            integer_bits=3 + seed % 4,
            exponent=-15 + seed,
            factor=factor_of(2.0**-23 if cell == LSTM else 2.0**-8) if seed else factor_of(1.3),
            zero=(-128, 127, 3)[seed % 3],
            low=-128 + 5 * seed,
            high=127 - seed,
            clip=900 if cell == LSTM and seed == 2 else 0,
            reverse=seed % 2 == 1,
        )
        products = gate_product(rows, features, -seed, seed, way), gate_product(rows, hidden, ends.zero, 7, way)
        layer = IntegerCell(cell, *products, ends)
        state = (int8(batch, hidden).int() * 257).to(torch.int16)
        hiddens = int8(batch, hidden) if cell == LSTM else None
        for given in ((), (hiddens, state), (None, state)):
            wanted = integer_recurrent_reference(layer, x := int8(batch, steps, features), *given)
            kept = [None if part is None else part.clone() for part in (x, *given)]
            found = PreparedIntegerRecurrent(layer, isa)(x, *given)
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
            assert all(a is None or torch.equal(a, b) for a, b in zip(kept, (x, *given), strict=True))


@WAYS
def test_gates_are_scaled_in_each_way(way: Ending) -> None:
    """So that no way is left out above."""
    product = gate_product(20, 8, 0, 1, way)
    assert product.bias is not None
    addend, multiplier, shift = (row.long() for row in (product.bias, product.multiplier, product.shift))
    assert rounded_twice(product.weight, addend, multiplier, shift, 0) is way
