# SPDX-License-Identifier: Apache-2.0
"""The formulas of methods that round to whole steps, on numbers worked by hand."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from _stepped import network
from bittern.deploy import pack, verify
from bittern.quant import LSQ, PACT
from bittern.quantizer import LayerShape, Method, Quantizer, input_terms, weight_terms

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


# -- all ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [LSQ, PACT])
def test_options(cls: type[Quantizer]) -> None:
    for option in ("weight_bits", "input_bits"):
        for bad in (1, 9, True, 2.0):
            with pytest.raises(ValueError, match=f"{cls.__name__}: {option} must be an integer from 2 to 8"):
                cls(SHAPE, **{option: bad})
    bad_words = {LSQ: {"inputs": "both", "scale": "row"}, PACT: {"limit": 0.0}}[cls]
    for option, bad in bad_words.items():
        with pytest.raises(ValueError, match=f"{cls.__name__}: {option} must be"):
            cls(SHAPE, **{option: bad})


PACKED: dict[str, Method] = {
    "LSQ": partial(LSQ, weight_bits=3, input_bits=3),
    "LSQ-signed-filter": partial(LSQ, inputs="signed", scale="filter"),
    "PACT": partial(PACT, weight_bits=2, input_bits=3, limit=1.0),
}


@pytest.mark.parametrize("method", PACKED.values(), ids=PACKED.keys())
def test_it_packs_and_verifies(method: Method) -> None:
    model, x = network(method)
    packed = pack(model, x)
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    assert model(x).detach().unique().numel() > 5
