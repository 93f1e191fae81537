# SPDX-License-Identifier: Apache-2.0
"""Rows as sums of scaled signs: numbers worked by hand, plain loops in float64, and what the product of two must be."""

from __future__ import annotations

import itertools
import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from _multibit_cases import awkward_rows
from _tolerance import assert_elementwise, assert_exact
from bittern import ops


def decoded(words: Tensor, scale: Tensor, n: int) -> Tensor:
    """float64 [rows, n]: the sum that planes and scales stand for."""
    return (ops.unpack_signs.reference(words, n, torch.float64) * scale.double().t()[:, :, None]).sum(0)


# ---- by hand


def test_greedy_by_hand() -> None:
    """x = (6, 2, -2, -6): a_0 = 4, rests 2, -2, 2, -2, a_1 = 2."""
    words, scale = ops.multibit_quantize.reference(torch.tensor([[6.0, 2.0, -2.0, -6.0]]), 2, cycles=0)
    assert scale.tolist() == [[4.0, 2.0]]
    assert words.tolist() == [[[0b0011]], [[0b0101]]]


def test_a_cycle_by_hand() -> None:
    """x = (8, 1, -1, -1, -1): greedy a_0 = 12/5 with signs + + - - -; rests 5.6, -1.4, 1.4, 1.4, 1.4 give + - + + +.

    B'B = [[5, -3], [-3, 5]], B'x = (12, 4): a = (72, 56) / 16, sums -8, -1, 1, 8, borders -4.5, 0, 4.5: x itself.
    """
    x = torch.tensor([[8.0, 1.0, -1.0, -1.0, -1.0]])
    words, scale = ops.multibit_quantize.reference(x, 2, cycles=1)
    assert_exact(scale, torch.tensor([[4.5, 3.5]]))
    assert words.tolist() == [[[0b00011]], [[0b11101]]]


def test_a_tie_goes_up_and_equal_planes_get_nothing() -> None:
    words, scale = ops.multibit_quantize.reference(torch.tensor([[0.0, -0.0, 0.0]]), 3)
    assert (scale.tolist(), words.flatten().tolist()) == ([[0.0, 0.0, 0.0]], [0b111] * 3)
    words, scale = ops.multibit_quantize.reference(torch.tensor([[3.0, -3.0]]), 2, cycles=4)
    assert (scale.tolist(), decoded(words, scale, 2).tolist()) == ([[3.0, 0.0]], [[3.0, -3.0]])


# ---- against plain loops in float64


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_scales_are_least_squares_and_codes_the_nearest(planes: int, refined: bool) -> None:
    """Scales solve the normal equations of the planes of the cycle before; no other code is nearer."""
    x = awkward_rows("nearest", 129)[[0, 4, 7]]
    before, _ = ops.multibit_quantize(x, planes, 1, refined)
    words, scale = ops.multibit_quantize(x, planes, 2, refined)
    assert (scale.diff(dim=1) <= 0).all()
    basis = ops.unpack_signs(before, 129, torch.float64)
    for r in range(len(x)):
        solved = torch.linalg.lstsq(basis[:, r].t(), x[r].double()[:, None], driver="gelsd").solution[:, 0].abs()
        best = ((solved.sort(descending=True).values - scale[r]).abs() < 1e-5 * x[r].abs().max()).all()
        assert best or torch.linalg.matrix_rank(basis[:, r]) < planes
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=planes)), dtype=torch.float64)
    nearest = (x.double()[:, :, None] - (scale.double() @ signs.t())[:, None]).abs().amin(2)
    assert_elementwise((x - decoded(words, scale, 129)).abs().float(), nearest, 4, x.double().abs().max())


@pytest.mark.parametrize(
    ("planes", "limits"), [(2, (0.131, 0.126, 0.120)), (3, (0.059, 0.051, 0.046)), (4, (0.0335, 0.0248, 0.0208))]
)
def test_errors_of_gaussian_rows(planes: int, limits: tuple[float, ...]) -> None:
    """Mean relative squared error of 64 rows of 1024: greedy, refined, two cycles, as sums in float64 give it."""
    x = torch.randn((64, 1024), generator=torch.Generator().manual_seed(0))
    for limit, (cycles, refined) in zip(limits, ((0, False), (0, True), (2, False)), strict=True):
        words, scale = ops.multibit_quantize(x, planes, cycles, refined)
        error = ((x - decoded(words, scale, 1024)) ** 2).sum(1) / (x.double() ** 2).sum(1)
        assert float(error.mean()) == pytest.approx(limit, rel=0.05)


def test_greedy_planes_are_those_of_horq() -> None:
    """Residuals by the mean |x|: signs and scales of `InputScale.PER_SAMPLE`."""
    x = awkward_rows("horq", 77)
    words, scale = ops.multibit_quantize(x, 3, cycles=0)
    rest = x
    for i in range(3):
        mean = ops.mean_magnitude(rest)
        assert_exact(scale[:, i], mean[:, 0])
        assert_exact(words[i], ops.pack_signs(rest))
        rest = torch.where(rest >= 0, rest - mean, rest + mean)


@pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
@pytest.mark.parametrize("refined", [False, True])
def test_rows_that_are_not_finite_have_no_scale(isa: ops.Isa, refined: bool) -> None:
    x = torch.ones(5, 70)
    x[0, 3], x[1, 69], x[2], x[3] = math.nan, math.inf, 3e38, -math.inf
    for cycles in (0, 2):
        words, scale = ops.multibit_quantize.native(isa, x, 2, cycles, refined)
        assert scale.isnan().all(1).tolist() == [True, True, True, True, False]
        assert scale.isnan().any(1).tolist() == [True, True, True, True, False]
        assert not words[:, :4].any()
        expected = ops.multibit_quantize.reference(x, 2, cycles, refined)
        assert torch.equal(words, expected[0])
        assert torch.equal(scale[4], expected[1][4])


# ---- the product


def test_product_by_hand() -> None:
    """n = 3, planes + + - and - - - of w, + - + of x: acc 3 - 2 * 2 = -1 and 3 - 2 * 2 = -1."""
    w = torch.tensor([[[0b011]], [[0b000]]])
    y = ops.multibit_matvec.reference(
        torch.tensor([[[0b101]]]), torch.tensor([[2.0]]), w, torch.tensor([[3.0, 0.5]]), 3, torch.tensor([0.25])
    )
    assert y.tolist() == [[(-1 * 3.0) * 2.0 + (-1 * 0.5) * 2.0 + 0.25]]


@pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
def test_the_largest_counts(isa: ops.Isa) -> None:
    """All signs differ, or none, in chunks that are full and not; an odd number of planes of inputs."""
    n, draw = 1000, torch.Generator().manual_seed(8)
    signs = ops.pack_signs(torch.randn(2, n, generator=draw))
    opposite = ops.pack_signs(-ops.unpack_signs(signs, n))
    for planes in ((0,), (0, 1, 0), (0, 0, 1, 1, 0)):
        x = torch.stack([(signs, opposite)[plane] for plane in planes])
        ones = torch.ones(2, len(planes))
        y = ops.multibit_matvec.native(isa, x, ones, signs.repeat(20, 1)[None], torch.ones(40, 1), n)
        expected = n * (len(planes) - 2 * sum(planes))
        assert y[0, ::2].tolist() == [expected] * 20
        assert y[1, 1::2].tolist() == [expected] * 20


def test_prepared_takes_inputs_as_the_op() -> None:
    draw = torch.Generator().manual_seed(3)
    w = ops.multibit_quantize(torch.randn(37, 150, generator=draw), 3, cycles=10)
    prepared = ops.PreparedMultibitMatvec(*w, 150)
    for shape in ((150,), (1, 150), (0, 150), (2, 3, 150)):
        real = torch.randn(shape, generator=draw)
        x = ops.multibit_quantize(real, 2)
        assert_exact(prepared(*x), ops.multibit_matvec.reference(*x, *w, 150))
        for isa in ops.available_isas():
            assert_exact(ops.PreparedMultibitMatvec(*w, 150, isa=isa).quantized(real, 2), prepared(*x))
    exact = decoded(*x_rows(x), 150) @ decoded(*w, 150).t()
    assert_elementwise(prepared(*x).view(6, 37), exact, 3 + 3 * 6, 150 * float(x[1].max() * w[1].max()))


def test_prepared_writes_where_it_is_told_and_looks_at_each_input_anew() -> None:
    draw = torch.Generator().manual_seed(4)
    w = ops.multibit_quantize(torch.randn(5, 70, generator=draw), 2)
    prepared, x = ops.PreparedMultibitMatvec(*w, 70), torch.randn(3, 70, generator=draw)
    out, expected = torch.full((3, 5), 7.0), prepared(*ops.multibit_quantize(x, 2))
    assert prepared.quantized(x, 2, out=out) is out
    assert_exact(out, expected)
    assert_exact(prepared.quantized(x.t().contiguous().t(), 2), expected)
    assert_exact(prepared.quantized(x.double().float()[:1], 2), expected[:1])
    assert_exact(prepared.quantized(x.bfloat16(), 3), prepared(*ops.multibit_quantize(x.bfloat16(), 3)))
    assert_exact(prepared.quantized(x, 2, 0, True), prepared(*ops.multibit_quantize(x, 2, 0, True)))
    for wrong in (out[:2], out.double(), torch.empty(5, 3).t(), torch.empty((3, 5), device="meta")):
        with pytest.raises(ValueError, match=re.escape("out must be float32 [3, 5], contiguous, on the CPU; got")):
            prepared.quantized(x, 2, out=wrong)
    with pytest.raises(TypeError, match="x must be float32"):
        prepared.quantized(x.double(), 2)
    with pytest.raises(ValueError, match="all tensors must be on one device"):
        prepared.quantized(x.to("meta"), 2)


def x_rows(x: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    words, scale = x
    return words.flatten(1, -2), scale.flatten(0, -2)


def test_opcheck() -> None:
    """Without its last part, which compiles."""
    draw = torch.Generator().manual_seed(5)
    w, x = (ops.multibit_quantize(torch.randn(rows, 70, generator=draw), 2) for rows in (9, 4))
    parts = ("test_schema", "test_faketensor", "test_autograd_registration")
    real, options = torch.randn(3, 65, generator=draw), {"refined": True}
    torch.library.opcheck(ops.multibit_quantize.overload, (real, 2), options, test_utils=parts)
    torch.library.opcheck(ops.multibit_matvec.overload, (*x, *w, 70), {"bias": torch.ones(9)}, test_utils=parts)


def test_compiles_into_one_graph() -> None:
    torch.compiler.reset()
    draw = torch.Generator().manual_seed(6)
    w, x = ops.multibit_quantize(torch.randn(9, 70, generator=draw), 2), torch.randn(4, 70, generator=draw)

    def product(x: Tensor) -> Tensor:
        return ops.multibit_matvec(*ops.multibit_quantize(x * 2, 3), *w, 70) + 1

    assert_exact(torch.compile(product, fullgraph=True, backend="eager")(x), product(x))


# ---- messages


def test_messages_of_prepared() -> None:
    w = ops.multibit_quantize(torch.randn(5, 70), 2)
    prepared = ops.PreparedMultibitMatvec(*w, 70)
    with pytest.raises(ValueError, match=re.escape("x must be [..., 70]; got [2, 71]")):
        prepared.quantized(torch.zeros(2, 71), 2)
    with pytest.raises(ValueError, match=re.escape("planes must lie in 1 ... 8; got 0")):
        prepared.quantized(torch.zeros(2, 70), 0)
    with pytest.raises(ValueError, match="x must have 2 words"):
        prepared(*ops.multibit_quantize(torch.zeros(2, 60), 2))
    with pytest.raises(ValueError, match="bias must be"):
        ops.PreparedMultibitMatvec(*w, 70, torch.zeros(4))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            (torch.zeros(2, 3, dtype=torch.float64), 2),
            TypeError,
            "multibit_quantize: x must be float32, bfloat16, float16",
        ),
        ((torch.zeros(2, 0), 2), ValueError, "rows of x must hold 1 to 2^24 numbers; got shape [2, 0]"),
        ((torch.tensor(1.0), 2), ValueError, "rows of x must hold 1 to 2^24 numbers; got shape []"),
        ((torch.zeros(2, 3), 0), ValueError, "planes must lie in 1 ... 8; got 0"),
        ((torch.zeros(2, 3), 9), ValueError, "planes must lie in 1 ... 8; got 9"),
        ((torch.zeros(2, 3), 2, -1), ValueError, "cycles must be at least 0; got -1"),
    ],
)
def test_messages_of_quantize(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        ops.multibit_quantize(*arguments)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"in_features": 0}, ValueError, "in_features must lie in [1, 2^24]"),
        ({"in_features": 65}, ValueError, "w must have 2 words in its last dimension for 65 bits"),
        (
            {"w": torch.zeros(9, 5, 1, dtype=torch.int64)},
            ValueError,
            "w must be [planes, ..., words] with 1 to 8 planes",
        ),
        ({"w": torch.zeros(2, 1, dtype=torch.int64)}, ValueError, "w_scale must be [2], one of each plane; got [5, 2]"),
        ({"w_scale": torch.zeros(2, 5)}, ValueError, "w_scale must be [5, 2], one of each plane; got [2, 5]"),
        ({"w_scale": torch.zeros(5, 2).double()}, TypeError, "w_scale must be float32; got float64"),
        ({"x": torch.zeros(3, 4, 1, dtype=torch.int64)}, ValueError, "x_scale must be [4, 3]"),
        ({"bias": torch.zeros(4)}, ValueError, "bias must be [5]; got [4]"),
    ],
)
def test_messages_of_matvec(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {
        "x": torch.zeros(2, 4, 1, dtype=torch.int64),
        "x_scale": torch.zeros(4, 2),
        "w": torch.zeros(2, 5, 1, dtype=torch.int64),
        "w_scale": torch.zeros(5, 2),
        "in_features": 60,
    }
    with pytest.raises(error, match=re.escape(message)):
        ops.multibit_matvec(**(arguments | changed))
