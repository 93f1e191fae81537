# SPDX-License-Identifier: Apache-2.0
"""Steps of integers against loops over exact fractions, and what is refused."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from _tolerance import assert_exact
from bittern.deploy.errors import ExportError, FormatError
from bittern.deploy.executorch.lowering import ExportModule
from bittern.deploy.form import Form
from bittern.deploy.kinds.integer.means import factor_of_mean
from bittern.deploy.kinds.integer.parts import int8_form
from bittern.deploy.kinds.integer.table import table_of
from bittern.deploy.kinds.kind import check_node
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.onnx.dialect import ARITHMETIC
from bittern.deploy.onnx.module import Parts
from bittern.deploy.packed import Packed, from_bytes
from bittern.deploy.program import Input, Node, Program
from bittern.deploy.validate import check_program
from bittern.ops.fixed_point import Factor, factor_of

CPU = torch.device("cpu")
WHOLE = {"low": -128, "high": 127}


def run(kind: str, *inputs: Tensor, tensors: dict[str, Tensor] | None = None, **attrs: Any) -> Any:
    """What a node gives, checked as one of a file is."""
    tensors = tensors or {}
    defaults = {key: rule.default for key, rule in KINDS[kind].attrs.items() if rule.default is not None}
    node = Node(
        kind, "n", tuple(range(len(inputs))), len(inputs), {**defaults, **attrs}, {role: role for role in tensors}
    )
    check_node(KINDS[kind], node, tensors)
    return KINDS[kind].build(node, tensors, CPU)(*inputs)


def int8(*shape: int) -> Tensor:
    return torch.randint(-128, 128, shape, dtype=torch.int8)


def rounded(value: Fraction) -> int:
    """To the nearest, halves away from zero."""
    return (1 if value >= 0 else -1) * math.floor(abs(value) + Fraction(1, 2))


def times(total: int, factor: Factor, once: bool) -> int:
    """`total` times a factor of at most 1, rounded twice or once."""
    multiplier, shift = factor
    if once:
        return math.floor(Fraction(total * multiplier, 2 ** (31 - shift)) + Fraction(1, 2))
    high = math.floor(Fraction(total * multiplier, 2**31) + Fraction(1, 2))
    return rounded(Fraction(high, 2**-shift))


@pytest.mark.parametrize("once", [False, True])
def test_convolution(once: bool) -> None:
    x, weight = int8(2, 4, 5, 6), int8(6, 2, 3, 2)
    bias = torch.randint(-3000, 3000, (6,), dtype=torch.int32)
    factors = [factor_of(0.001 * (1 + channel)) for channel in range(6)]
    tensors = {"weight": weight, "bias": bias} | {
        name: torch.tensor([getattr(factor, name) for factor in factors], dtype=torch.int32)
        for name in ("multiplier", "shift")
    }
    found = run(
        "integer_conv", x, tensors=tensors, zero=7, out_zero=-9, low=-40, high=90, once=once,
        stride=[2, 1], padding=[1, 0, 0, 2], dilation=[1, 2], groups=2,
    )  # fmt: skip
    assert found.shape == (2, 6, 3, 5)
    for b, o, i, j in itertools.product(*map(range, found.shape)):
        total = int(bias[o])
        for c, di, dj in itertools.product(range(2), range(3), range(2)):
            row, column = 2 * i + di, j + 2 * dj - 1
            if 0 <= row < 5 and 0 <= column < 6:
                total += int(weight[o, c, di, dj]) * (int(x[b, 2 * (o // 3) + c, row, column]) - 7)
        assert int(found[b, o, i, j]) == min(max(times(total, factors[o], once) - 9, -40), 90)


def test_linear_without_bias() -> None:
    x, weight, factor = int8(3, 40), int8(5, 40), factor_of(0.002)
    tensors = {"weight": weight, "multiplier": torch.full((5,), factor.multiplier, dtype=torch.int32)}
    tensors["shift"] = torch.full((5,), factor.shift, dtype=torch.int32)
    found = run("integer_linear", x, tensors=tensors, zero=-128, out_zero=3, once=False)
    sums = (x.long() + 128) @ weight.long().T
    wanted = [[min(max(times(int(s), factor, False) + 3, -128), 127) for s in row] for row in sums]
    assert found.tolist() == wanted


def test_sum_of_two_scales() -> None:
    a, b = int8(2, 3, 4), int8(2, 3, 4)
    scales, zeros, out = (0.04, 0.05), (3, -20), 0.07
    factors = [factor_of(scale / 0.1) for scale in scales]
    own = factor_of(0.1 / (2**20 * out))
    attrs = {
        f"{p}{n}": getattr(f, n) for p, f in zip(("a_", "b_", ""), (*factors, own), strict=True) for n in Factor._fields
    }
    found = run("integer_add", a, b, zero_a=zeros[0], zero_b=zeros[1], out_zero=11, **attrs, **WHOLE)
    real = sum(scale * (x.double() - zero) for x, scale, zero in zip((a, b), scales, zeros, strict=True))
    wanted = (real / out + 11).clamp(-128, 127)  # type: ignore[union-attr]
    assert float((found.double() - wanted).abs().max()) < 0.5 + 1e-4  # to the nearest, but for halves


def test_means_round_away_from_zero_and_count_the_image_alone() -> None:
    x = torch.tensor([[[[1, 2, -1], [2, 2, -2], [-3, -4, 127]]]], dtype=torch.int8)
    found = run("integer_average", x, kernel=[2, 2], stride=[2, 2], padding=[0, 1, 0, 1], **WHOLE)
    # 7 / 4, -3 / 2, -7 / 2, 127
    assert found.flatten().tolist() == [2, -2, -4, 127]


def test_bilinear_resizing() -> None:
    """Rows at 0, 3/4 and 2, columns at 1/2 and 1, whose next one is the last again."""
    x = torch.tensor([[[[8, -7], [1, 2], [127, -128]]]], dtype=torch.int8)
    rows = torch.tensor([[0, 0], [0, 768], [2, 0]], dtype=torch.int32)
    columns = torch.tensor([[0, 512], [1, 1000]], dtype=torch.int32)
    found = run("integer_resize", x, tensors={"rows": rows, "columns": columns})
    # (8 - 7) / 2, -7; (8 / 4 + 3 / 4 + (-7 / 4 + 6 / 4)) / 2 = 2.5 / 2, -1 / 4; -1 / 2, -128
    assert found.flatten().tolist() == [1, -7, 1, 0, -1, -128]


def checked(node: Node, tensors: dict[str, Tensor], *forms: Form) -> Form:
    check_node(KINDS[node.kind], node, tensors)
    return KINDS[node.kind].shape(node, tensors, *forms)


def test_bad_places() -> None:
    form, fine = int8_form((1, 2, 3, 3)), torch.tensor([[1, 5]], dtype=torch.int32)
    for wrong, said in (
        ([[1, 1024]], "below 1024"),
        ([[-1, 0]], "from 0 on"),
        ([1, 2], "must be"),
        ([[3, 0]], "reads?"),
    ):
        tensors = {"rows": fine, "columns": torch.tensor(wrong, dtype=torch.int32)}
        node = Node("integer_resize", "n", (0,), 1, {}, {role: role for role in tensors})
        with pytest.raises(FormatError, match=said):
            checked(node, tensors, form)


@pytest.mark.parametrize("once", [False, True])
def test_matrices(once: bool) -> None:
    a, b, factor = int8(2, 3, 4, 5), int8(2, 3, 5, 6), factor_of(0.0013)
    zeros = {"zero_a": 11, "zero_b": -128, "out_zero": -7}
    found = run("integer_matmul", a, b, once=once, **zeros, **factor._asdict(), low=-90, high=100)
    assert found.shape == (2, 3, 4, 6)
    for i, j, n, m in itertools.product(*map(range, found.shape)):
        total = sum((int(a[i, j, n, k]) - 11) * (int(b[i, j, k, m]) + 128) for k in range(5))
        assert int(found[i, j, n, m]) == min(max(times(total, factor, once) - 7, -90), 100)


def test_sums_of_matrices_must_fit_int32() -> None:
    node = Node("integer_matmul", "n", (0, 1), 2, {"zero_a": -128, "zero_b": -128}, {})
    long = int8_form((1, 2, 40000)), int8_form((1, 40000, 2))
    with pytest.raises(FormatError, match="may reach 2601000000"):
        KINDS["integer_matmul"].shape(node, {}, *long)
    with pytest.raises(FormatError, match=r"k, m\]"):
        KINDS["integer_matmul"].shape(node, {}, int8_form((1, 2, 3)), int8_form((1, 2, 3)))


def test_softmax_of_rows_is_that_of_each_row() -> None:
    multiplier, shift = factor_of(0.1 * 2**26)
    x = int8(2, 3, 4, 7)
    found = run("integer_softmax", x, multiplier=multiplier, shift=shift, least=-255)
    rows = run("integer_softmax", x.reshape(-1, 7), multiplier=multiplier, shift=shift, least=-255)
    assert_exact(found, rows.view(x.shape))


def test_maximum() -> None:
    x = torch.tensor([[[[-128, -100, 5], [-120, -128, 6], [1, 2, 3]]]], dtype=torch.int8)
    found = run("integer_max", x, kernel=[2, 2], stride=[2, 2], padding=[0, 1, 0, 1], low=-110, high=5)
    assert found.flatten().tolist() == [-100, 5, 2, 3]


def test_softmax() -> None:
    x, scale = int8(200, 10), 0.1
    x[100:] //= 16
    multiplier, shift = factor_of(scale * 2**26)
    found = run("integer_softmax", x, multiplier=multiplier, shift=shift, least=-255)
    wanted = torch.softmax(scale * x.double(), 1) * 256 - 128
    assert float((found.double() - wanted.clamp(max=127)).abs().max()) < 0.51
    equal = run("integer_softmax", torch.zeros(1, 4, dtype=torch.int8), multiplier=multiplier, shift=shift, least=-255)
    assert equal.tolist() == [[-64] * 4]


def test_tables() -> None:
    x, table = int8(3, 50), int8(256)
    wanted = [[int(table[value + 128]) for value in row] for row in x.tolist()]
    assert run("integer_table", x, tensors={"table": table}).tolist() == wanted
    with pytest.raises(FormatError, match=r"tensor 'table' must be \[256\]; got \[255\]"):
        run("integer_table", x, tensors={"table": table[1:]})


def test_tables_by_channel() -> None:
    x, tables = int8(2, 3, 4, 5), int8(3, 256)
    found = run("integer_tables", x, tensors={"tables": tables})
    for b, c in itertools.product(range(2), range(3)):
        assert_exact(found[b, c], run("integer_table", x[b : b + 1, c], tensors={"table": tables[c]})[0])
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    found = run("integer_tables", pixels, tensors={"tables": tables})
    for b, c in itertools.product(range(2), range(3)):
        assert found[b, c].flatten().tolist() == [int(tables[c, value]) for value in pixels[b, c].flatten().tolist()]
    with pytest.raises(FormatError, match=r"tensor 'tables' must be \[3, 256\]; got \[3, 255\]"):
        run("integer_tables", x, tensors={"tables": tables[:, 1:].contiguous()})


def test_products_and_differences() -> None:
    a, b = int8(2, 30), int8(2, 30)
    zeros, factor = {"zero_a": 3, "zero_b": -20, "out_zero": 11}, factor_of(0.007)
    found = run("integer_multiply", a, b, **zeros, **factor._asdict(), low=-100, high=90)
    for x, y, z in zip(a.flatten().tolist(), b.flatten().tolist(), found.flatten().tolist(), strict=True):
        assert z == min(max(times((x - 3) * (y + 20), factor, False) + 11, -100), 90)
    factors = {
        f"{p}{n}": value
        for p, real in (("a_", 0.4), ("b_", 0.5), ("", 0.1 / (2**20 * 0.07)))
        for n, value in factor_of(real)._asdict().items()
    }
    less = run("integer_subtract", a, b, **zeros, **factors, **WHOLE)
    real = 0.04 * (a.double() - 3) - 0.05 * (b.double() + 20)
    assert float((less.double() - (real / 0.07 + 11).clamp(-128, 127)).abs().max()) < 0.5 + 1e-4
    assert_exact(run("integer_maximum", a, b), torch.where(a > b, a, b))
    assert_exact(run("integer_minimum", a, b), torch.where(a > b, b, a))


def test_means_of_dimensions() -> None:
    x, factor = int8(2, 3, 4, 5), factor_of_mean(0.8, 20)
    found = run("integer_mean", x, dims=[2, 3], zero=-9, out_zero=4, **factor._asdict(), **WHOLE)
    for b, c in itertools.product(range(2), range(3)):
        total = sum(x[b, c].flatten().tolist()) + 9 * 20
        assert abs(int(found[b, c]) - 4 - 0.8 * total / 20) < 0.5 + 1e-4
    kept = run("integer_mean", x, dims=[1], keep=True, zero=-9, out_zero=4, **factor_of_mean(1.0, 3)._asdict(), **WHOLE)
    assert kept.shape == (2, 1, 4, 5)


@pytest.mark.parametrize(("before", "size"), [([0, 0], [9, 7]), ([1, 0], [6, 8])])
def test_transposed_convolution(before: list[int], size: list[int]) -> None:
    """Row 8 of the first and columns beyond 6 of the second: what no window reaches has the bias alone."""
    x, weight = int8(2, 2, 3, 3), int8(3, 2, 3, 2)
    factors = [factor_of(0.002 * (1 + channel)) for channel in range(3)]
    tensors = {"weight": weight, "bias": torch.tensor([500, -9, 0], dtype=torch.int32)} | {
        name: torch.tensor([getattr(factor, name) for factor in factors], dtype=torch.int32)
        for name in ("multiplier", "shift")
    }
    found = run(
        "integer_transposed_conv", x, tensors=tensors, zero=7, out_zero=-9, once=False,
        stride=[2, 3], before=before, size=size, **WHOLE,
    )  # fmt: skip
    for b, o, row, column in itertools.product(*map(range, found.shape)):
        total = int(tensors["bias"][o])
        for c, i, j, di, dj in itertools.product(range(2), range(3), range(3), range(3), range(2)):
            if (2 * i + di - before[0], 3 * j + dj - before[1]) == (row, column):
                total += int(weight[o, c, di, dj]) * (int(x[b, c, i, j]) - 7)
        assert int(found[b, o, row, column]) == min(max(times(total, factors[o], False) - 9, -128), 127)


def test_the_table_of_a_function() -> None:
    found = table_of(torch.sqrt, scale=0.5, zero=-128, out_scale=0.25, out_zero=-100, high=-90)
    assert found.dtype == torch.int8
    for value, answer in zip(range(-128, 128), found.tolist(), strict=True):
        exact = math.sqrt((value + 128) / 2) * 4
        assert answer == min(rounded(Fraction(exact)) - 100, -90)
    with pytest.raises(ValueError, match=r"the function of 0.5 \* \(-128 - 0\) is NaN"):
        table_of(torch.sqrt, scale=0.5, zero=0, out_scale=0.25, out_zero=0)


def test_conversions() -> None:
    x = torch.tensor([[0.25, -0.25, 0.24, 1000.0, -1000.0, 0.75]])
    found = run("quantize", x, scale=0.5, zero=-3)
    assert found.tolist() == [[-2, -4, -3, 127, -128, -1]]
    assert run("dequantize", found, scale=0.5, zero=-3).tolist() == [[0.5, -0.5, 0.0, 65.0, -62.5, 1.0]]
    multiplier, shift = factor_of(0.5)
    again = run("requantize", found, zero=-3, out_zero=1, multiplier=multiplier, shift=shift)
    assert again.tolist() == [[2, 1, 1, 66, -61, 2]]  # halves upward: 1/2, -1/2, 0, 65, -125/2, 1


def _tensors(**changes: Tensor) -> dict[str, Tensor]:
    weight = torch.ones(2, 3, 1, 1, dtype=torch.int8)
    factors = {"multiplier": torch.full((2,), 2**30, dtype=torch.int32), "shift": torch.zeros(2, dtype=torch.int32)}
    return {"weight": weight, **factors, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": torch.full((2, 131072, 1, 1), -128, dtype=torch.int8)}, "its sums may reach 2147483648, and int32"),
        ({"bias": torch.tensor([2**31 - 1, 0], dtype=torch.int32)}, "its sums may reach"),
        ({"multiplier": torch.tensor([-1, 1], dtype=torch.int32)}, "its factors must not be negative"),
        ({"shift": torch.tensor([31, 1], dtype=torch.int32)}, r"shifts lie in \[-31, 30\]"),
        ({"shift": torch.tensor([-(2**31), 1], dtype=torch.int32)}, r"shifts lie in \[-31, 30\]"),
        ({"shift": torch.zeros(3, dtype=torch.int32)}, r"tensor 'shift' must be \[2\]; got \[3\]"),
        ({"weight": torch.ones(2, 3, dtype=torch.int8)}, "weight must have 4 dimensions"),
        ({"weight": torch.ones(2, 3, 1, 1)}, "must be torch.int8; got torch.float32"),
    ],
)
def test_refuses(changes: dict[str, Tensor], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        run("integer_conv", int8(1, 3, 2, 2), tensors=_tensors(**changes), zero=0, out_zero=0)


def program(kind: str = "integer_conv") -> tuple[Program, dict[str, Tensor]]:
    attrs = {key: rule.default for key, rule in KINDS[kind].attrs.items() if rule.default is not None}
    node = Node(kind, "n", (0,), 1, attrs | {"zero": 0, "out_zero": 0}, {role: role for role in _tensors()})
    return Program((node,), (Input("x", (3, 4, 4), "int8"),), 1), _tensors()


def test_windows_and_channels_must_fit() -> None:
    made, tensors = program()
    for shape, message in (((4, 4, 4), "it takes 3 channels"), ((3, 4), "it takes .* dimensions")):
        wrong = Program(made.nodes, (Input("x", shape, "int8"),), 1)
        with pytest.raises(FormatError, match=message):
            check_program(wrong, tensors)
    with pytest.raises(FormatError, match="it takes an int8 value; got real"):
        check_program(Program(made.nodes, (Input("x", (3, 4, 4)),), 1), tensors)


def test_a_file_of_integers_is_read_as_it_was_written() -> None:
    packed = Packed(*program(), {}, CPU)
    x = int8(5, 3, 4, 4)
    again = from_bytes(packed.to_bytes())
    assert packed(x).dtype == torch.int8
    assert_exact(again(x), packed(x))
    assert_exact(packed(x[3:4]), packed(x)[3:4])
    with pytest.raises((TypeError, ValueError), match="int8"):
        packed(x.float())


def test_exports_refuse_integers_by_name() -> None:
    made, tensors = program()
    with pytest.raises(ExportError, match="to_onnx: node 'n' is of kind 'integer_conv'"):
        Parts(made, tensors, ARITHMETIC).of(made.nodes[0])
    with pytest.raises(ExportError, match="to_executorch: node 'n' is of kind 'integer_conv'"):
        ExportModule(made, tensors, (made.output,))
