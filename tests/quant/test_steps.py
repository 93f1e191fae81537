# SPDX-License-Identifier: Apache-2.0
"""The formulas of methods that round to whole steps, on numbers worked by hand."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bittern.codes import Integers
from bittern.deploy import pack, verify
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quant import FQN, LSQ, PACT, TQT, DynamicFixedPoint, IntegerOnly, LSQPlus
from bittern.quantizer import LayerShape, Method, Quantized, Quantizer, input_terms, weight_terms

SHAPE = LayerShape((2, 3))
W = torch.tensor([[0.5, -0.75, 3.0], [-2.5, 0.26, 1.0]])
G = torch.tensor([[1.0, 2.0, 3.0], [5.0, 7.0, 11.0]])
"""The gradient of the real weight, or input."""


def given(method: Quantizer, **values: float) -> Quantizer:
    """A method whose parameters have these numbers, as if they had started."""
    for name, value in values.items():
        nn.init.constant_(getattr(method, name), value)
    if hasattr(method, "started"):
        method.started.fill_(True)
        method.was_loaded()
    return method


def scale_of(q: Quantized) -> Tensor:
    assert q.scale is not None
    return q.scale


def gradients(method: Quantizer, what: str, v: Tensor, parameter: Tensor) -> tuple[Tensor, list[float], float]:
    """(real values, gradient of v, that of a parameter), where that of the real values is G."""
    v = v.clone().requires_grad_()
    terms = weight_terms(method, v) if what == "weight" else input_terms(method, v)
    real = sum((t.values if t.scale is None else t.values * t.scale for t in terms), torch.zeros(()))
    dv, dp = torch.autograd.grad(real, (v, parameter), G)
    return real.detach(), dv.flatten().tolist(), float(dp)


# -- LSQ ---------------------------------------------------------------------------------------------------


def test_lsq_weights() -> None:
    """s = 0.5 of 3 bits: v / s = 1, -1.5, 6 | -5, 0.52, 2; numbers 1, -2, 3 | -4, 1, 2 of -4 ... 3.

    ds = [1 * 0 + 2 * (-2 + 1.5) + 3 * 3 + 5 * -4 + 7 * (1 - 0.52) + 11 * 0] / sqrt(6 * 3) = -8.64 / sqrt(18).
    """
    method = given(LSQ(SHAPE, weight_bits=3), weight_step=0.5)
    real, dw, ds = gradients(method, "weight", W, method.weight_step)  # type: ignore[arg-type]
    assert real.tolist() == [[0.5, -1.0, 1.5], [-2.0, 0.5, 1.0]]
    assert dw == [1, 2, 0, 0, 7, 11]
    assert ds == pytest.approx(-8.64 / 18**0.5, rel=1e-5)


def test_lsq_inputs() -> None:
    """s = 0.5 of 2 bits unsigned: numbers 1, 0, 3 | 0, 1, 2; signed: 1, -2, 1 | -2, 1, 1 (a tie goes to even).

    Unsigned ds = [0 + 0 + 3 * 3 + 0 + 7 * 0.48 + 0] / sqrt(3 * 3), three inputs a sample.
    Signed: v / s = 1 = Qp, -1.5, 6 | -5, 0.52, 2: [1 + 2 * -0.5 + 3 + 5 * -2 + 7 * 0.48 + 11] / sqrt(3).
    """
    method = given(LSQ(SHAPE, input_bits=2), input_step=0.5)
    real, dx, ds = gradients(method, "input", W, method.input_step)  # type: ignore[arg-type]
    assert real.tolist() == [[0.5, 0, 1.5], [0, 0.5, 1.0]]
    assert dx == [1, 0, 0, 0, 7, 11]
    assert ds == pytest.approx((9 + 7 * 0.48) / 3, rel=1e-5)
    method = given(LSQ(SHAPE, input_bits=2, inputs="signed"), input_step=0.5)
    real, dx, ds = gradients(method, "input", W, method.input_step)  # type: ignore[arg-type]
    assert real.tolist() == [[0.5, -1.0, 0.5], [-1.0, 0.5, 0.5]]
    assert dx == [0, 2, 0, 0, 7, 0]
    assert ds == pytest.approx((1 - 1 + 3 - 10 + 7 * 0.48 + 11) / 3**0.5, rel=1e-5)


def test_lsq_starts_from_the_first_batch() -> None:
    """mean |W| = 8.01 / 6, Qp = 7; inputs of 2 bits Qp = 3, mean 1.5. A batch of zeros leaves 1; rows have a step."""
    method = LSQ(SHAPE, input_bits=2)
    expected = 2 * 8.01 / 6 / 7**0.5
    assert method.eval().weight(W).scale.item() == pytest.approx(expected)  # type: ignore[union-attr]
    assert method.weight_step.item() == 1.0
    method.train().weight(W)
    method.input(torch.tensor([[1.0, 2.0, 1.5]]))
    assert method.weight_step.item() == pytest.approx(expected)
    assert method.input_step.item() == pytest.approx(2 * 1.5 / 3**0.5)
    method.input(torch.full((1, 3), 9.0))
    assert method.input_step.item() == pytest.approx(2 * 1.5 / 3**0.5)
    other = LSQ(SHAPE)
    other.load_state_dict(method.state_dict())
    other.weight(5 * W)
    assert other.weight_step.item() == pytest.approx(expected)
    rows = LSQ(SHAPE, scale="filter")
    rows.weight(W)
    assert rows.weight_step.tolist() == pytest.approx([2 * 4.25 / 3 / 7**0.5, 2 * 3.76 / 3 / 7**0.5])
    zeros = LSQ(SHAPE)
    zeros.input(torch.zeros(2, 3))
    zeros.weight(torch.zeros(2, 3))
    assert zeros.input_step.item() == zeros.weight_step.item() == 1.0


def test_lsq_takes_the_size_of_a_step_below_0() -> None:
    method = given(LSQ(SHAPE, weight_bits=3), weight_step=-0.5)
    real, dw, ds = gradients(method, "weight", W, method.weight_step)  # type: ignore[arg-type]
    assert real.tolist() == [[0.5, -1.0, 1.5], [-2.0, 0.5, 1.0]]
    assert dw == [1, 2, 0, 0, 7, 11]
    assert ds == pytest.approx(8.64 / 18**0.5, rel=1e-5)


# -- PACT --------------------------------------------------------------------------------------------------


def test_pact_inputs() -> None:
    """a = 1 of 2 bits: x 3 = 1.5 (a tie: 2), below 0, above | below, 0.78, x = a. da = 3 + 11."""
    method = given(PACT(SHAPE, input_bits=2), limit=1.0)
    real, dx, da = gradients(method, "input", W, method.limit)  # type: ignore[arg-type]
    assert torch.allclose(real, torch.tensor([[2 / 3, 0, 1], [0, 1 / 3, 1]]))
    assert dx == pytest.approx([1, 0, 0, 0, 7, 0])
    assert da == pytest.approx(14)


def test_pact_weights_are_dorefas() -> None:
    from bittern.binary import DoReFa

    for bits in (2, 4):
        ours, theirs = (m(SHAPE, weight_bits=bits).weight(W) for m in (PACT, DoReFa))
        assert torch.equal(ours.values, theirs.values)
        assert ours.scale is not None
        assert theirs.scale is not None
        assert torch.equal(ours.scale, theirs.scale)


# -- TQT ---------------------------------------------------------------------------------------------------


def test_tqt() -> None:
    """log2 t = 0.7, so t = 2, s = 2 / 4 of 3 bits signed as of 2 bits unsigned: the numbers are those of LSQ above.

    -1.5 of weights rounds to -2, which is in range. d(log2 t) = s ln 2 times the sums there.
    """
    method = given(TQT(SHAPE, weight_bits=3, input_bits=2), weight_log=0.7, input_log=0.7)
    real, dw, dl = gradients(method, "weight", W, method.weight_log)  # type: ignore[arg-type]
    assert real.tolist() == [[0.5, -1.0, 1.5], [-2.0, 0.5, 1.0]]
    assert dw == [1, 2, 0, 0, 7, 11]
    assert dl == pytest.approx(-8.64 * 0.5 * math.log(2), rel=1e-5)
    real, dx, dl = gradients(method, "input", W, method.input_log)  # type: ignore[arg-type]
    assert real.tolist() == [[0.5, 0, 1.5], [0, 0.5, 1.0]]
    assert dx == [1, 0, 0, 0, 7, 11]
    assert dl == pytest.approx((9 + 7 * 0.48) * 0.5 * math.log(2), rel=1e-5)


def test_tqt_starts_at_three_deviations() -> None:
    """Mean 0, deviation 1: t = 3, s = 4 / 128. What rounds to the end is inside: 3.4 of 3 bits."""
    method = TQT(LayerShape((1, 2)))
    w = torch.tensor([[1.0, -1.0]])
    assert scale_of(method.eval().weight(w)).item() == 4 / 128
    method.train().weight(w)
    assert method.weight_log.item() == pytest.approx(math.log2(3))
    fixed = TQT(LayerShape((1, 3)), weight_bits=3)
    given(fixed, weight_log=2.0)
    w = torch.tensor([[3.4, 3.6, -4.4]], requires_grad=True)
    assert torch.autograd.grad(fixed.weight(w).values.sum(), w)[0].tolist() == [[1, 0, 1]]


# -- LSQ+ --------------------------------------------------------------------------------------------------


def test_lsq_plus() -> None:
    """(x - b) / s = 1.5, -1, 6.5 | -4.5, 1.02, 2.5 of 0 ... 3: numbers 2, 0, 3 | 0, 1, 2; three inputs a sample.

    ds = [0.5 + 3 * 3 - 7 * 0.02 - 11 * 0.5] / 3, db = [2 + 3 + 5] / 3.
    """
    method = given(LSQPlus(SHAPE, weight_bits=3, input_bits=2), weight_step=0.5, input_step=0.5, offset=-0.25)
    real, dx, ds = gradients(method, "input", W, method.input_step)  # type: ignore[arg-type]
    assert real.tolist() == [[0.75, -0.25, 1.25], [-0.25, 0.25, 0.75]]
    assert dx == [1, 0, 0, 0, 7, 11]
    assert ds == pytest.approx(3.86 / 3, rel=1e-5)
    assert gradients(method, "input", W, method.offset)[2] == pytest.approx(10 / 3)  # type: ignore[arg-type]
    real, dw, ds = gradients(method, "weight", W, method.weight_step)  # type: ignore[arg-type]
    assert real.tolist() == [[0.5, -1.0, 1.5], [-2.0, 0.5, 1.0]]
    assert dw == [1, 2, 0, 0, 7, 11]
    assert ds == pytest.approx(-8.64 / 18**0.5, rel=1e-5)


def test_lsq_plus_starts_with_the_least_error() -> None:
    """Four levels lie on the whole range of four even numbers. Mean 0 and deviation 1: s of 4 bits is 3 / 8."""
    method = LSQPlus(LayerShape((1, 2)), input_bits=2)
    method.input(torch.tensor([[-0.5, 0.0], [0.5, 1.0]]))
    assert (method.input_step.item(), method.offset.item()) == (0.5, -0.5)
    method.weight(torch.tensor([[1.0, -1.0]]))
    assert method.weight_step.item() == pytest.approx(3 / 8)


# -- dynamic fixed point -----------------------------------------------------------------------------------


def test_dynamic_fixed_point() -> None:
    """max 3: weights IL = ceil(log2 3 + 1) = 3, s = 1 of 3 bits; inputs IL = 2, s = 1/4 of 4 bits, -8 ... 7."""
    method = DynamicFixedPoint(SHAPE, weight_bits=3, input_bits=4, batches=1)
    w, x = W.clone().requires_grad_(), W.clone().requires_grad_()
    q = method.weight(w)
    assert (q.values.tolist(), scale_of(q).item()) == ([[0, -1, 3], [-2, 0, 1]], 1.0)
    (found,) = torch.autograd.grad(q.values * scale_of(q), w, G)
    assert torch.equal(found, G)
    q = method.input(x)
    assert (q.values.tolist(), scale_of(q).item()) == ([[2, -3, 7], [-8, 1, 4]], 0.25)
    (found,) = torch.autograd.grad(q.values * scale_of(q), x, G)
    assert torch.equal(found, G)
    method.weight(9 * W)
    method.input(9 * W)
    assert (method.weight_length.item(), method.input_largest.item()) == (3, 3)
    with pytest.raises(ValueError, match="batches must be an integer from 1 on; got 0"):
        DynamicFixedPoint(SHAPE, batches=0)


# -- integer only ------------------------------------------------------------------------------------------


def test_integer_only_weights() -> None:
    """-2.5 ... 3 of 3 bits: S = 5.5 / 6, Z = round(1 + 2.73) = 4, numbers -3 ... 3. By filters S = 1 and 2.5 / 3."""
    method = IntegerOnly(SHAPE, weight_bits=3)
    q = method.weight(W)
    assert q.values.tolist() == [[1, -1, 3], [-3, 0, 1]]
    assert scale_of(q).item() == pytest.approx(5.5 / 6)
    assert (method.weight_code().low, method.weight_code().high) == (-4, 3)
    w = W.clone().requires_grad_()
    q = method.weight(w)
    assert torch.allclose(torch.autograd.grad(q.values * scale_of(q), w, G)[0], G)
    q = IntegerOnly(SHAPE, weight_bits=3, rule="int8").weight(W)
    assert q.values.tolist() == [[0, -1, 3], [-3, 0, 1]]
    assert scale_of(q).flatten().tolist() == pytest.approx([1, 2.5 / 3])


def test_integer_only_inputs() -> None:
    """First batch -2.5 ... 3 of 2 bits: S = 5.5 / 3, Z = 1. Then half of it and of -0.5 ... 1."""
    method = IntegerOnly(SHAPE, input_bits=2, decay=0.5, delay=1)
    assert torch.equal(method.input(W).values, W)
    method.eval()
    x = W.clone().requires_grad_()
    q = method.input(x)
    assert q.values.tolist() == [[0, 0, 2], [-1, 0, 1]]
    assert scale_of(q).item() == pytest.approx(5.5 / 3)
    assert torch.allclose(torch.autograd.grad(q.values * scale_of(q), x, G)[0], G)
    assert method.input_code().grid == Integers(-1, 2)
    method.train().input(torch.tensor([[-0.5, 0.0, 1.0]]))
    assert (method.input_low.item(), method.input_high.item()) == (-1.5, 2.0)
    method.input(torch.tensor([[torch.nan, 0.0, 9.0]]))
    assert method.input_high.item() == 2.0
    other = IntegerOnly(SHAPE, input_bits=2, delay=1)
    other.load_state_dict(method.state_dict())
    assert other.input(W).values.unique().numel() <= 4
    for option, bad in (("rule", "int4"), ("decay", 1.0), ("delay", -1)):
        with pytest.raises(ValueError, match=f"IntegerOnly: {option} must be"):
            IntegerOnly(SHAPE, **{option: bad})  # type: ignore[arg-type]


def test_fqn_leaves_out_the_largest() -> None:
    """Place 5 of 6 from either side is 0.75 of W: -0.75 ... 1; the mean with 2 W is -1.125 ... 1.5; then half of that
    and of 4 W is -2.0625 ... 2.75: S = 4.8125 / 3, Z = 1, 4 W / S = 1.25, -1.87, 7.48 | -6.23, 0.65, 2.49."""
    method = FQN(SHAPE, input_bits=2, quantile=0.75, batches=2, decay=0.5)
    for times, low, high in ((1, -0.75, 1.0), (2, -1.125, 1.5)):
        assert torch.equal(method.input(times * W).values, times * W)
        assert (method.input_low.item(), method.input_high.item()) == (low, high)
    x = (4 * W).requires_grad_()
    q = method.input(x)
    assert (method.input_low.item(), method.input_high.item()) == (-2.0625, 2.75)
    assert q.values.tolist() == [[1, -1, 2], [-1, 1, 2]]
    assert scale_of(q).item() == pytest.approx(4.8125 / 3)
    (dx,) = torch.autograd.grad(q.values * scale_of(q), x, G)
    assert torch.allclose(dx, torch.tensor([[1.0, 0, 0], [0, 7, 11]]))
    method.input(torch.tensor([[torch.nan, 0.0, 9.0]]))
    assert method.input_high.item() == 2.75
    q = FQN(SHAPE, weight_bits=3).weight(W)
    assert q.values.tolist() == [[0, -1, 3], [-3, 0, 1]]
    assert scale_of(q).flatten().tolist() == pytest.approx([1, 2.5 / 3])
    for option, bad in (("quantile", 0.5), ("quantile", 1.1), ("batches", 0), ("decay", 1.0), ("weight_bits", 9)):
        with pytest.raises(ValueError, match=f"{option} must be"):
            FQN(SHAPE, **{option: bad})  # type: ignore[arg-type]


# -- all ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [LSQ, PACT, TQT, LSQPlus, DynamicFixedPoint, IntegerOnly, FQN])
def test_options(cls: type[Quantizer]) -> None:
    for option in ("weight_bits", "input_bits"):
        for bad in (1, 9, True, 2.0):
            with pytest.raises(ValueError, match=f"{cls.__name__}: {option} must be an integer from 2 to 8"):
                cls(SHAPE, **{option: bad})
    bad_words = {LSQ: {"inputs": "both", "scale": "row"}, PACT: {"limit": 0.0}, TQT: {"inputs": "both"}}.get(cls, {})
    for option, bad in bad_words.items():
        with pytest.raises(ValueError, match=f"{cls.__name__}: {option} must be"):
            cls(SHAPE, **{option: bad})


PACKED: dict[str, Method] = {
    "LSQ": partial(LSQ, weight_bits=3, input_bits=3),
    "LSQ-signed-filter": partial(LSQ, inputs="signed", scale="filter"),
    "PACT": partial(PACT, weight_bits=2, input_bits=3, limit=1.0),
    "TQT": partial(TQT, weight_bits=3, input_bits=4, inputs="signed"),
    "LSQPlus": partial(LSQPlus, weight_bits=3, input_bits=2),
    "DynamicFixedPoint": partial(DynamicFixedPoint, weight_bits=4, input_bits=3),
    "IntegerOnly": partial(IntegerOnly, weight_bits=4, input_bits=4),
    "FQN": FQN,
    "IntegerOnly-int8": partial(IntegerOnly, weight_bits=4, input_bits=8, rule="int8"),
}


@pytest.mark.parametrize("method", PACKED.values(), ids=PACKED.keys())
def test_it_packs_and_verifies(method: Method) -> None:
    """Padding, groups, ties, and rows, after a batch in training."""
    torch.manual_seed(0)
    conv = BinaryConv2d(4, 6, 3, padding=1, groups=2, method=method)
    model = nn.Sequential(conv, nn.BatchNorm2d(6), nn.Flatten(), BinaryLinear(54, 3, bias=True, method=method))
    x = torch.randn(8, 4, 3, 3)
    x[0, 0, 0] = torch.tensor([0.0, -0.0, 0.125])
    model(x)
    model.eval()
    packed = pack(model, x)
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    assert model(x).detach().unique().numel() > 5
