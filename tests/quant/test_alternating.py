# SPDX-License-Identifier: Apache-2.0
"""Alternating multi-bit quantization: numbers worked by hand, the errors it must reach, degenerate rows, layers."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from _tolerance import assert_elementwise, assert_exact
from bittern.codes import Code, Ternary
from bittern.deploy import PackError, pack, verify
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quant import Alternating, approximate, multibit
from bittern.quantizer import (
    InputCode,
    LayerShape,
    Method,
    MultibitCode,
    Quantized,
    RealCode,
    SignCode,
    input_codes,
)

ROWS = 64
RELATIVE = {
    "gaussian": {2: (0.131, 0.126, 0.123, 0.120, 0.118), 3: (0.059, 0.051, 0.051, 0.046, 0.0375)}
    | {4: (0.0335, 0.0248, 0.0255, 0.0208, 0.0125)},
    "laplace": {2: (0.228, 0.208, 0.196, 0.183, 0.175), 3: (0.141, 0.116, 0.106, 0.081, 0.056)}
    | {4: (0.094, 0.060, 0.066, 0.052, 0.024)},
}
"""Mean relative squared errors of rows of 1,024: greedy, refined greedy, and 1, 2 and 10 cycles."""


def squared_error(rows: Tensor, planes: int, *, cycles: int, refined: bool = False) -> Tensor:
    """Of each row, relative to its own square."""
    found = multibit(rows, planes, cycles=cycles, refined=refined)
    return (found.real() - rows).square().sum(-1) / rows.square().sum(-1)


@pytest.mark.parametrize("law", RELATIVE)
def test_errors_are_those_of_the_literature(law: str) -> None:
    torch.manual_seed(0)
    rows = torch.randn(ROWS, 1024) if law == "gaussian" else torch.distributions.Laplace(0.0, 1.0).sample((ROWS, 1024))
    for planes, expected in RELATIVE[law].items():
        found = [squared_error(rows, planes, cycles=0), squared_error(rows, planes, cycles=0, refined=True)]
        found += [squared_error(rows, planes, cycles=cycles) for cycles in (1, 2, 10)]
        for errors, mean in zip(found, expected, strict=True):
            # both are means of 64 draws: five deviations of their difference, and the digits that were written down
            bound = 5 * float(errors.std()) * (2 / ROWS) ** 0.5 + 0.0005
            assert abs(float(errors.mean()) - mean) <= bound


def test_one_plane_is_the_mean_size() -> None:
    for cycles in (0, 1, 7):
        found = multibit(torch.tensor([[1.0, -2.0, 0.0, -0.0]]), 1, cycles=cycles)
        assert torch.equal(found.signs, torch.tensor([[[1.0, -1.0, 1.0, 1.0]]]))
        assert found.scales.item() == 0.75


def test_two_planes_by_hand() -> None:
    """w = 1, 2, 6, -7: greedy a = 4 and mean |r| of r = -3, -2, 2, -3, 2.5; then one cycle.

    b_1 = + + + -, b_2 = - - + -: b_1 b_2 = -1 -1 1 1, so B'B / 4 = I, B'w / 4 = (4, 2.5): sums -6.5, -1.5, 1.5, 6.5,
    midpoints -4, 0, 4: the signs stay, and so does all else.
    """
    w = torch.tensor([1.0, 2.0, 6.0, -7.0])
    for cycles in (0, 1, 2):
        found = multibit(w, 2, cycles=cycles)
        assert torch.equal(found.signs, torch.tensor([[1.0, 1.0, 1.0, -1.0], [-1.0, -1.0, 1.0, -1.0]]))
        assert_elementwise(found.scales, torch.tensor([4.0, 2.5], dtype=torch.float64), 4, 4.0)
        assert_elementwise(found.real(), torch.tensor([1.5, 1.5, 6.5, -6.5], dtype=torch.float64), 8, 6.5)


def test_a_cycle_by_hand() -> None:
    """w = 4, 1, 1, -2: greedy a_1 = 2, r = 2, -1, -1, 0, b_2 = + - - +, a_2 = 1. Least squares of the two planes:

    b_1 . b_2 = 1 - 1 - 1 - 1 = -2, B'w = (8, 0): 4 a_1 - 2 a_2 = 8, -2 a_1 + 4 a_2 = 0: a = 8/3, 4/3. The sums are
    -4, -4/3, 4/3, 4 with midpoints -8/3, 0, 8/3, so w becomes 4, 4/3, 4/3, -4/3.
    """
    w = torch.tensor([4.0, 1.0, 1.0, -2.0])
    greedy = multibit(w, 2, cycles=0)
    assert torch.equal(greedy.signs, torch.tensor([[1.0, 1.0, 1.0, -1.0], [1.0, -1.0, -1.0, 1.0]]))
    assert torch.equal(greedy.scales, torch.tensor([2.0, 1.0]))
    found = multibit(w, 2, cycles=1)
    assert torch.equal(found.signs, greedy.signs)
    assert_elementwise(found.scales, torch.tensor([8 / 3, 4 / 3], dtype=torch.float64), 4, 8 / 3)
    refined = multibit(w, 2, cycles=0, refined=True)
    assert_elementwise(refined.scales, torch.tensor([8 / 3, 4 / 3], dtype=torch.float64), 4, 8 / 3)


def test_no_cycle_makes_it_worse_and_signs_are_the_nearest() -> None:
    torch.manual_seed(1)
    rows = torch.randn(5, 3, 65, dtype=torch.float64) ** 3
    for planes in (1, 2, 3, 8):
        before = squared_error(rows, planes, cycles=1)
        for cycles in range(2, 12, 3):
            after = squared_error(rows, planes, cycles=cycles)
            assert_elementwise((after - before).clamp(min=0.0), torch.zeros_like(after), 64, 1.0)
            before = after
        found = multibit(rows, planes, cycles=3)
        assert bool((found.scales >= 0).all())
        assert bool((found.scales.diff(dim=-1) <= 0).all())
        codes = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * planes).view(-1, planes)
        sums = (found.scales.unsqueeze(-2) * codes).sum(-1)
        nearest = (rows.unsqueeze(-1) - sums.unsqueeze(-2)).abs().amin(-1)
        assert_elementwise((rows - found.real()).abs(), nearest, 16, 2.0 * float(sums.max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_strange_rows(dtype: torch.dtype) -> None:
    rows = torch.tensor([[0.0] * 5, [-0.0] * 5, [3.0] * 5, [-3.0] * 5, [1e-30] * 5, [0.0, 0.0, 0.0, 0.0, 1e30]])
    rows = rows.to(dtype)
    for planes, cycles, refined in ((1, 2, False), (3, 0, False), (3, 0, True), (4, 10, False), (8, 2, True)):
        found = multibit(rows, planes, cycles=cycles, refined=refined)
        assert bool(found.scales.isfinite().all())
        assert bool(found.signs.abs().eq(1).all())
        assert found.signs.dtype == found.scales.dtype == dtype
        assert torch.equal(found.real()[:2], torch.zeros(2, 5, dtype=dtype))
        assert_elementwise(found.real()[2:5] / rows[2:5], torch.ones(3, 5, dtype=torch.float64), 32, 1.0)
    assert multibit(rows[2:4], 2, cycles=4).scales.tolist() == [[3.0, 0.0]] * 2  # equal planes: one has it all
    bad = torch.tensor([[1.0, float("nan")], [float("inf"), 1.0], [1.0, -2.0]], dtype=dtype)
    scales = multibit(bad, 2, cycles=2).scales
    assert bool(scales[:2].isnan().all())
    assert bool(scales[2].isfinite().all())
    assert multibit(torch.randn(0, 7, dtype=dtype), 2).signs.shape == (2, 0, 7)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: multibit(torch.ones(2), 0), ValueError, "multibit: planes must be an integer from 1 to 8; got 0"),
        (lambda: multibit(torch.ones(2), 9), ValueError, "from 1 to 8; got 9"),
        (lambda: multibit(torch.ones(2), 2, cycles=-1), ValueError, "cycles must be an integer of at least 0; got -1"),
        (lambda: multibit(torch.ones(2, 0), 2), ValueError, r"at least one number; got \[2, 0\]"),
        (lambda: multibit(torch.ones(2, dtype=torch.int32), 2), TypeError, r"floating point; got torch\.int32"),
        (lambda: Alternating(LayerShape((2, 3)), bits=9), ValueError, "Alternating: bits must be an integer from 1"),
        (lambda: Alternating(LayerShape((2, 3)), input_bits=True), ValueError, "input_bits must be .*; got True"),
        (lambda: Alternating(LayerShape((2, 3)), input_cycles=-1), ValueError, "input_cycles must be"),
        (
            lambda: BinaryConv2d(4, 4, 3, method=partial(Alternating, input_bits=2)),
            ValueError,
            "Alternating: input_bits=2 scales each row of a linear layer's input; a convolution's has 2 dimensions",
        ),
        (lambda: approximate(nn.BatchNorm1d(3), 2), ValueError, "approximate: the model has no matrix of weights"),
    ],
)
def test_refusals(call: object, error: type[Exception], message: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("input_cycles", [0, 2])
def test_a_layer_multiplies_what_both_sums_stand_for(input_cycles: int) -> None:
    """Forward and straight-through backward, in float64."""
    torch.manual_seed(2)
    method = partial(Alternating, bits=3, input_bits=2, cycles=2, input_cycles=input_cycles)
    layer = BinaryLinear(65, 7, bias=True, method=method).double()
    x = torch.randn(4, 3, 65, dtype=torch.float64, requires_grad=True)
    w_q = multibit(layer.weight, 3, cycles=2).real()
    x_q = multibit(x, 2, cycles=input_cycles).real()
    y, g = layer(x), torch.randn(4, 3, 7, dtype=torch.float64)
    assert layer.bias is not None
    assert_elementwise(y.detach(), x_q @ w_q.T + layer.bias.detach(), 256, 10.0)
    y.backward(g)
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert_elementwise(x.grad, g @ w_q, 256, 10.0)
    assert_elementwise(layer.weight.grad, g.flatten(0, 1).T @ x_q.flatten(0, 1), 256, 50.0)
    with torch.no_grad():
        layer.weight.fill_(3.0)
        layer.method.settle(layer.weight)
    assert torch.equal(layer.weight, torch.ones_like(layer.weight))


def test_codes_say_what_inputs_are() -> None:
    def codes(**options: object) -> tuple[object, ...]:
        return input_codes(Alternating(LayerShape((2, 3)), **options))  # type: ignore[arg-type]

    assert codes() == (RealCode(),)
    assert codes(input_bits=2, input_cycles=3, refined=True) == (
        MultibitCode(2, 0, 3, True),
        MultibitCode(2, 1, 3, True),
    )
    greedy = codes(input_bits=2, input_cycles=0)
    assert all(isinstance(code, SignCode) for code in greedy)


@pytest.mark.parametrize(
    ("cycles", "refined", "kind"), [(0, False, "binary"), (2, False, "multibit_linear"), (0, True, "multibit_linear")]
)
def test_layers_pack_bit_for_bit(cycles: int, refined: bool, kind: str) -> None:
    """Rows of zeros, of both zeros, of one size, of few sizes, and one that holds infinity; several rows a sample."""
    torch.manual_seed(3)
    method = partial(Alternating, bits=2, input_bits=3, input_cycles=cycles, refined=refined)
    plain = nn.Sequential(
        BinaryLinear(65, 9, bias=True, method=method), nn.Tanh(), BinaryLinear(9, 4, method=method)
    ).eval()
    for shape in ((7, 65), (7, 2, 65))[: 1 + (cycles > 0)]:
        x = torch.randn(shape)
        x[0], x[1, ..., ::2], x[2], x[3], x[4, ..., 5] = 0.0, -0.0, 0.5, x[3].round(), float("inf")
        packed = pack(plain, x)
        report = verify(packed, plain, x)
        assert report.exact
        assert report.logits_identical
        assert {layer.name for layer in report.layers} == {f"{name}.term{i}" for name in "02" for i in range(6)}
        assert kind in {node.kind for node in packed.program.nodes}
        assert_exact(packed(x)[torch.arange(7) != 4], plain(x).detach()[torch.arange(7) != 4])
        assert bool(packed(x)[4].isnan().all())
        assert_exact(from_bytes(packed.to_bytes())(x[:3]), packed(x)[:3])


class Mixed(Alternating):
    """Weights of another code beside inputs of planes."""

    def weight(self, w: Tensor) -> tuple[Quantized, ...]:
        return (Quantized(w.sign()),)

    def weight_code(self) -> tuple[Code, ...]:
        return (Ternary(),)


class Doubled(Alternating):
    """Inputs of which one plane is left out, or met twice."""

    def input_code(self) -> InputCode | tuple[InputCode, ...]:
        return (MultibitCode(2, 0, 2), MultibitCode(2, 0, 2))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (partial(Mixed, input_bits=2), "layer '0': Mixed has inputs of several planes .* packed with weights of signs"),
        (partial(Doubled, input_bits=2), "layer '0': Doubled has inputs .* all of them, in their order"),
        (partial(Alternating, input_bits=1, input_cycles=1001), "by 1001 cycles at each call; at most 1000"),
    ],
)
def test_what_no_node_says_is_refused(method: Method, message: str) -> None:
    with pytest.raises(PackError, match=message):
        pack(nn.Sequential(BinaryLinear(9, 3, method=method)), torch.randn(2, 9))


def test_approximate_quantizes_rows_of_every_matrix_once() -> None:
    torch.manual_seed(4)
    model = nn.ModuleDict({"words": nn.Embedding(11, 8), "lstm": nn.LSTM(8, 8), "head": nn.Linear(8, 11)})
    model["head"].weight = model["words"].weight
    before = {name: p.clone() for name, p in model.named_parameters()}
    made = approximate(model, 2, cycles=3)
    assert made["head"].weight is made["words"].weight
    for name, p in made.named_parameters():
        expected = before[name] if p.ndim < 2 else multibit(before[name], 2, cycles=3).real()
        assert_exact(p.detach(), expected.detach())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    with torch.no_grad():
        model["head"].weight[3, 3] = float("nan")
    with pytest.raises(ValueError, match=r"approximate: 'words\.weight' holds NaN or infinity"):
        approximate(model, 2)
