# SPDX-License-Identifier: Apache-2.0
"""EWGS, FracBNN and BiT: formulas against numbers worked by hand, starts, state, packing."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from bittern.binary import EWGS, BiT, FracBNN
from bittern.binary.bit import use_input_bits
from bittern.deploy import pack, verify
from bittern.estimators import gradient_scaled_levels
from bittern.nn import BinaryConv2d, BinaryLinear, Thermometer
from bittern.quantizer import LayerShape, Method, Quantizer, input_terms
from bittern.train.real_weights import real_weights

W = torch.tensor([[0.5, -1.4, 1.3, -0.1], [0.0, -0.0, -1.3, 2.0]])
ONES = torch.ones(2, 4)


def set_to(method: Quantizer, **numbers: float) -> Quantizer:
    with torch.no_grad():
        for name, number in numbers.items():
            getattr(method, name).fill_(number)
    return method


# -- FracBNN


def test_fracbnn_weights() -> None:
    m = FracBNN(shape_of(W))
    assert m.weight(W).values.tolist() == [[1, -1, 1, -1], [1, 1, -1, 1]]
    assert m.weight(W).scale is None
    assert scaled_weight_gradient(m, W, 2 * ONES).tolist() == [[2, 0, 2, 2], [2, 2, 2, 0]]


def test_fracbnn_inputs() -> None:
    """Bounds of -2/3, 0, 2/3; a tie at 0 goes to the even level 2."""
    x = torch.tensor([[-3.0, -1.0, -0.68, -0.66, -0.01, 0.0, 0.01, 0.66, 0.68, 1.0, torch.nan]])
    q = FracBNN(shape_of(x)).input(x)
    assert q.values.tolist() == [[-3, -3, -3, -1, -1, 1, 1, 1, 3, 3, -3]]
    assert q.scale is not None
    assert q.scale.item() == pytest.approx(1 / 3)
    found = scaled_input_gradient(FracBNN(shape_of(x)), x, torch.full_like(x, 2.0))
    assert found[0].tolist() == pytest.approx([0, 0, 2, 2, 2, 2, 2, 2, 2, 0, 0])


def test_thermometer() -> None:
    """255 x / 64 = 0, 1.99, 2.5 (to 2), 3.98: of four signs."""
    x = torch.tensor([0.0, 0.5, 160 / 255, 1.0]).view(1, 2, 2)
    layer = Thermometer(64)
    expected = [[[-1, 1], [-1, 1], [-1, -1], [-1, -1]], [[1, 1], [1, 1], [-1, 1], [-1, 1]]]
    assert layer(x).view(2, 4, 2).tolist() == expected
    assert Thermometer().signs == 32
    model = nn.Sequential(Thermometer(64), BinaryConv2d(8, 5, 3, padding=1, method=FracBNN)).eval()
    x = torch.rand(2, 2, 5, 5)
    assert verify(pack(model, x), model, x).logits_identical
    with pytest.raises(ValueError, match="Thermometer: resolution must be an integer from 1 to 255; got 0"):
        Thermometer(0)
    with pytest.raises(ValueError, match=r"expected an input \[batch, channels, \*space\]; got \[3\]"):
        layer(torch.zeros(3))


# -- EWGS


def test_gradient_is_scaled_by_what_was_rounded_away() -> None:
    """t - t_q = 0.3 - 0, 0.7 - 1, 0.5 - 0: dL/dt = g + delta |g| (t - t_q)."""
    t = torch.tensor([0.3, 0.7, 0.5, 0.3], requires_grad=True)
    levels = gradient_scaled_levels(torch.round(t.detach()), t, 1.0, 0.2)
    assert levels.tolist() == [0, 1, 0, 0]
    (found,) = torch.autograd.grad(levels, t, torch.tensor([1.0, 2.0, -1.0, 0.0]), create_graph=True)
    assert found.tolist() == pytest.approx([1 + 0.2 * 0.3, 2 - 0.4 * 0.3, -1 + 0.2 * 0.5, 0])
    with pytest.raises(NotImplementedError, match="a gradient scaled by what was rounded away has no derivative"):
        found.sum().backward()


def test_ewgs_inputs() -> None:
    """l = -1, u = 3: t = 0, 1/4, 1/2, 3/4, 1, beyond; 3 levels above 0."""
    x = torch.tensor([[-1.0, 0.0, 1.0, 2.0, 3.0, -5.0, 5.0]])
    m = set_to(EWGS(shape_of(x), input_bits=2, delta=0.2), input_low=-1, input_high=3, scale=-0.6).eval()
    q = m.input(x)
    assert q.values.tolist() == [[0, 1, 2, 2, 3, 0, 3]]
    assert q.scale is not None
    assert q.scale.item() == pytest.approx(0.2)
    t = [0, 0.25, 0.5, 0.75, 1]
    t_q = [0, 1 / 3, 2 / 3, 2 / 3, 1]
    # dv/dx = 1 / 4; g of t_q is 0.6 times that of the scaled input
    expected = [0.6 * (1 + 0.2 * (a - b)) / 4 for a, b in zip(t, t_q, strict=True)] + [0, 0]
    assert scaled_input_gradient(m, x, torch.ones_like(x))[0].tolist() == pytest.approx(expected)
    # dL/dl = sum of dL/dt (x - u) / (u - l)^2 where t is not clipped
    m.zero_grad()
    (m.input(x).values * (0.6 / 3)).sum().backward()
    low = sum(0.6 * (1 + 0.2 * (a - b)) * (4 * a - 4) / 16 for a, b in zip(t, t_q, strict=True))
    assert m.input_low.grad is not None
    assert m.input_low.grad.item() == pytest.approx(low)


def test_ewgs_weights() -> None:
    w = torch.tensor([[0.5, -1.0, -0.2, 0.0], [3.0, -0.0, 1.0, 0.2]])
    m = EWGS(shape_of(w), delta=0.0).eval()
    assert m.weight(w).values.tolist() == [[1, -1, -1, 1], [1, 1, 1, 1]]
    assert m.weight(w).scale is None
    assert scaled_weight_gradient(m, w, ONES).tolist() == [[1, 1, 1, 1], [0, 1, 1, 1]]  # 2 dt/dw = 2 / (u - l)
    two = EWGS(shape_of(w), weight_bits=2).eval()
    assert two.weight(w).values.tolist() == [[1, -3, -1, 1], [3, 1, 3, 1]]


def test_ewgs_starts_from_the_first_batch_it_trains_on() -> None:
    torch.manual_seed(0)
    w, x = torch.randn(6, 5), torch.randn(40, 5).abs() + 0.25
    m = EWGS(LayerShape((6, 5)))
    m.eval()
    m.weight(w), m.input(x)
    assert m.input_high.item() == 1.0, "eval mode starts nothing"
    m.train()
    w_q = m.weight(w).values
    x_q = m.input(x).values
    assert m.weight_high.item() == pytest.approx(3 * w.std().item())
    assert m.weight_low.item() == -m.weight_high.item()
    assert m.input_low.item() == x.min().item()
    assert m.input_high.item() == pytest.approx(min(3 * x.std().item() / math.sqrt(1 - 2 / math.pi), x.max().item()))
    sizes = [t.abs().mean().item() for t in (w, x, w_q, x_q)]
    assert m.scale.item() == pytest.approx(sizes[0] * sizes[1] / (sizes[2] * sizes[3]))
    again = copy.deepcopy(m.state_dict())
    m.input(3 * x)
    assert m.input_low.item() == x.min().item(), "once"
    other = EWGS(LayerShape((6, 5)))
    other.load_state_dict(again)
    other.input(3 * x)
    assert other.input_low.item() == x.min().item(), "not again after loading"


def test_ewgs_starts_soundly_from_what_says_nothing() -> None:
    m = EWGS(LayerShape((2, 4)))
    m.weight(torch.zeros(2, 4)), m.input(torch.zeros(3, 4))
    assert [p.item() for p in m.parameters()] == [-1, 1, 0, 1, 1]


@pytest.mark.parametrize("x", [[2.0, 2.5, 3.0, 2.75], [-1.0, 1.0, 1.0, -1.0], [0.0, 0.1, 0.0, 1.0]])
def test_ewgs_starts_where_inputs_lie(x: list[float]) -> None:
    """3 std / 0.603 is 2.1, 5.7 and 2.4: below the mean, or above the largest."""
    m = EWGS(LayerShape((2, 4)))
    m.input(torch.tensor([x]))
    assert (m.input_low.item(), m.input_high.item()) == (min(x), max(x))


def test_ewgs_refuses() -> None:
    with pytest.raises(ValueError, match="EWGS: delta must be a number from 0 on; got -1"):
        EWGS(LayerShape((2, 4)), delta=-1)
    with pytest.raises(ValueError, match="EWGS: input_bits must be an integer from 1 to 8; got 9"):
        EWGS(LayerShape((2, 4)), input_bits=9)


# -- BiT


def test_bit_weights() -> None:
    """Mean 0.125, mean size 0.825."""
    m = BiT(shape_of(W))
    q = m.weight(W)
    assert q.values.tolist() == [[1, -1, 1, -1], [-1, -1, -1, 1]]
    assert q.scale is not None
    assert q.scale.item() == pytest.approx(6.6 / 8)
    g = torch.arange(8.0).view(2, 4)
    assert scaled_weight_gradient(m, W, g).flatten().tolist() == pytest.approx(g.flatten().tolist())


def bit_gradients(inputs: str, x: Tensor, a: float, b: float, g: Tensor) -> tuple[list[float], list[float], float]:
    """Values, dx, da."""
    m = BiT(shape_of(x), inputs=inputs)  # type: ignore[arg-type]
    set_to(m, scale=a, shift=b).eval()
    x = x.clone().requires_grad_()
    q = m.input(x)
    assert q.scale is not None
    (q.values * q.scale).backward(g)
    assert m.scale.grad is not None
    assert x.grad is not None
    assert m.shift.grad is not None
    assert torch.allclose(m.shift.grad, x.grad.sum(0))
    return q.values[0].tolist(), x.grad[0].tolist(), m.scale.grad.item()


def test_bit_signed_inputs() -> None:
    """v = x + 0.5 = -2.5, -2, 0, 1, 2.25; a = 2."""
    x, g = torch.tensor([[-3.0, -2.5, -0.5, 0.5, 1.75]]), torch.tensor([[1.0, 2, 3, 4, 5]])
    values, dx, da = bit_gradients("signed", x, 2.0, 0.5, g)
    assert values == [-1, -1, 1, 1, 1]
    assert dx == pytest.approx([0, 2, 3, 4, 0])
    assert da == pytest.approx((-1 - 2 + 3 + 4 + 5) / math.sqrt(5))


def test_bit_unsigned_inputs() -> None:
    """q = v / a = -0.5, 0, 0.25, 0.5 (to 0), 0.75, 1, 2."""
    x, g = torch.tensor([[-1.5, -0.5, 0.0, 0.5, 1.0, 1.5, 3.5]]), torch.tensor([[1.0, 2, 3, 4, 5, 6, 7]])
    values, dx, da = bit_gradients("unsigned", x, 2.0, 0.5, g)
    assert values == [0, 0, 0, 0, 1, 1, 1]
    assert dx == pytest.approx([0, 2, 3, 4, 5, 6, 0])
    assert da == pytest.approx((3 * -0.25 + 4 * -0.5 + 5 * 0.25 + 7) / math.sqrt(7))


@pytest.mark.parametrize(("inputs", "factor"), [("signed", 2), ("unsigned", 4)])
def test_bit_starts_from_the_first_batch(inputs: str, factor: int) -> None:
    x = torch.tensor([[1.0, -2.0, 3.0]])
    m = BiT(shape_of(x), inputs=inputs)  # type: ignore[arg-type]
    m.input(x)
    m.input(9 * x)
    assert m.scale.item() == 2 * factor
    set_to(m, scale=-1.0)
    q = m.input(x)
    assert q.scale is not None
    assert q.scale.item() == pytest.approx(1e-5)


def test_bit_inputs_of_two_bits() -> None:
    """Signed, v = -6, -4, -1, 1, 2, 4 and a = 2; q = -0.5 and 0.5 go to 0. Unsigned, q = -0.5, 0.5, 1.5, 3, 4."""
    x = torch.tensor([[-6.5, -4.5, -1.5, 0.5, 1.5, 3.5]], requires_grad=True)
    m = set_to(BiT(shape_of(x), input_bits=2), scale=2.0, shift=0.5).eval()
    terms = input_terms(m, x)
    assert [term.values[0].tolist() for term in terms] == [[0, 0, 2, 2, 3, 3], [1] * 6]
    real = sum(term.values * term.scale for term in terms if term.scale is not None)
    assert isinstance(real, Tensor)
    assert real[0].tolist() == [-4, -4, 0, 0, 2, 2]
    real.backward(torch.arange(1.0, 7.0)[None])
    assert x.grad is not None
    assert x.grad[0].tolist() == pytest.approx([0, 2, 3, 4, 5, 0])
    grad = m.get_parameter("scale").grad
    assert grad is not None
    assert grad.item() == pytest.approx((-2 + 3 * 0.5 - 4 * 0.5 + 6) / math.sqrt(6))

    x = torch.tensor([[-1.5, 0.5, 2.5, 5.5, 7.5]], requires_grad=True)
    m = set_to(BiT(shape_of(x), inputs="unsigned", input_bits=2), scale=2.0, shift=0.5).eval()
    (q,) = input_terms(m, x)
    assert q.values[0].tolist() == [0, 0, 2, 3, 3]
    assert q.scale is not None
    (q.values * q.scale).backward(torch.arange(1.0, 6.0)[None])
    assert x.grad is not None
    assert x.grad[0].tolist() == pytest.approx([0, 2, 3, 4, 0])
    grad = m.get_parameter("scale").grad
    assert grad is not None
    assert grad.item() == pytest.approx((2 * -0.5 + 3 * 0.5 + 5 * 3) / math.sqrt(5 * 3))
    m = BiT(shape_of(x), inputs="unsigned", input_bits=2)
    m.input(torch.tensor([[1.0, -2.0, 3.0, 0.0, 0.0]]))
    assert m.scale.item() == pytest.approx(4 * 6 / 5 / math.sqrt(3))


def test_bit_refuses() -> None:
    with pytest.raises(ValueError, match="BiT: input_bits must be an integer from 1 to 8; got 9"):
        BiT(LayerShape((2, 4)), input_bits=9)
    with pytest.raises(ValueError, match="use_input_bits: the model has no layer of BiT"):
        use_input_bits(nn.Linear(2, 2), 2)
    with pytest.raises(ValueError, match="BiT: inputs must be one of 'signed', 'unsigned'; got 'both'"):
        BiT(LayerShape((2, 4)), inputs="both")  # type: ignore[arg-type]


# -- packing


@pytest.mark.parametrize(
    "method",
    [
        partial(EWGS, weight_bits=2, input_bits=3),
        EWGS,
        FracBNN,
        BiT,
        partial(BiT, inputs="unsigned"),
        partial(BiT, input_bits=2),
    ],
    ids=["EWGS-w2a3", "EWGS", "FracBNN", "BiT", "BiT-unsigned", "BiT-a2"],
)
def test_packed_equals_trained(method: Method) -> None:
    """After a step: ranges, scales and thresholds are no round numbers; ties of the code among the inputs."""
    torch.manual_seed(0)
    conv = BinaryConv2d(6, 10, 3, padding=1, stride=2, groups=2, bias=True, method=method)
    x = torch.randn(3, 6, 7, 5)
    optimizer = torch.optim.SGD(conv.parameters(), 0.001)
    conv(x).square().mean().backward()
    optimizer.step()
    x[0, :, 0, 0], x[0, :, 0, 1] = 0.0, -0.0
    with torch.no_grad():
        for at, name in enumerate(("input_low", "input_high", "scale")):
            x[0, :, 1, at] = getattr(conv.method, name, torch.tensor(0.5))
    model = nn.Sequential(conv).eval()
    packed = pack(model, x)
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    rows = nn.Sequential(BinaryLinear(5, 3, method=method)).eval()
    assert verify(pack(rows, x), rows, x).logits_identical


def test_a_loaded_state_says_what_has_started_whichever_stage_it_is_of() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 5)
    for make in (EWGS, real_weights(EWGS)):
        trained, other = BinaryConv2d(4, 6, 3, method=EWGS), BinaryConv2d(4, 6, 3, method=make)
        fresh = {name: value.clone() for name, value in trained.state_dict().items()}
        trained(x)
        other.load_state_dict(trained.state_dict())
        before = {name: value.clone() for name, value in other.state_dict().items()}
        other(5 * x)
        assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
        other.load_state_dict(fresh)
        other(5 * x)
        assert not torch.equal(other.state_dict()["method.input_high"], before["method.input_high"])
