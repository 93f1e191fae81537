# SPDX-License-Identifier: Apache-2.0
"""AdaBin against numbers worked by hand from the authors' code, arXiv 2208.08084."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from _tolerance import assert_elementwise
from bittern.binary import AdaBin
from bittern.deploy import pack, verify
from bittern.nn import BinaryConv2d
from bittern.quantizer import LayerShape, input_terms, weight_terms

W = torch.tensor([[2.0, 4.0, 0.0, -2.0], [0.5, -0.25, 0.0, 3.0]], dtype=torch.float64)
G = torch.tensor([[1.0, -2.0, 3.0, 0.5], [2.0, 1.0, -1.0, 4.0]], dtype=torch.float64)


def at(t: float) -> AdaBin:
    method = AdaBin(LayerShape((2, 4))).double()
    method.set_progress(t)
    return method


def test_weights_by_hand() -> None:
    """Of the first filter: centre 1, distance sqrt((1 + 9 + 1 + 9) / 4)."""
    signs, offset = weight_terms(at(0.0), W)
    assert signs.values[0].tolist() == [1, 1, -1, -1]
    assert signs.scale is not None
    assert offset.scale is not None
    assert signs.scale[0].item() == pytest.approx(math.sqrt(5.0))
    assert offset.scale[0].item() == 1.0
    assert torch.equal(offset.values, torch.ones_like(W))


@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_weight_gradient_by_hand(t: float) -> None:
    """dW_i = sum_j g_j (S_j da/dW_i + a e_j dV_j/dW_i + 1/n), with da/dW_i = (W_i - b) / (n a)."""
    method = at(t)
    rate = 10.0 ** (-3 + 4 * t)
    k = max(1 / rate, 1.0)
    assert (method.t.item(), method.k.item()) == pytest.approx((rate, k), rel=1e-6)
    expected = torch.zeros_like(W)
    for o in range(2):
        w, g, n = W[o].tolist(), G[o].tolist(), 4
        b = sum(w) / n
        a = math.sqrt(sum((v - b) ** 2 for v in w) / n)
        for i in range(n):
            da = (w[i] - b) / (n * a)
            for j in range(n):
                v = (w[j] - b) / a
                e = k * rate * (1 - math.tanh(rate * v) ** 2)
                dv = ((i == j) - 1 / n) / a - v * da / a
                expected[o, i] += g[j] * ((1 if v >= 0 else -1) * da + a * e * dv + 1 / n)
    w = W.clone().requires_grad_()
    real = sum(term.values * term.scale for term in weight_terms(method, w) if term.scale is not None)
    (found,) = torch.autograd.grad(real, w, G)
    # t and k are float32 numbers in float64
    assert_elementwise(found.float(), expected, 64, 20.0)


@pytest.mark.parametrize(("offset", "centre", "distance"), [("paper", 1.0, 2.0), ("released", 5.0, 4.0)])
def test_inputs_and_their_gradients_by_hand(offset: str, centre: float, distance: float) -> None:
    """a = 2, b = 1/2: u = (.75, -.75, 0, 1.75), slopes (.5, .5, 2, 0)."""
    method = AdaBin(LayerShape((1, 4)), offset=offset)  # type: ignore[arg-type]
    with torch.no_grad():
        method.distance.fill_(2.0)
        method.centre.fill_(0.5)
    x = torch.tensor([[2.0, -1.0, 0.5, 4.0]], requires_grad=True)
    real = sum(term.values * term.scale for term in input_terms(method, x) if term.scale is not None)
    low, high = (-1.5, 2.5) if offset == "paper" else (-1.0, 3.0)
    assert real.tolist() == [[high, low, high, high]]
    real.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[0.5, 0.5, 2.0, 0.0]]
    assert method.centre.grad is not None
    assert method.distance.grad is not None
    assert method.centre.grad.item() == centre
    assert method.distance.grad.item() == distance


def test_a_distance_below_0_gives_the_same_two_values() -> None:
    method, x = AdaBin(LayerShape((1, 4))), torch.tensor([[2.0, -1.0, 0.25, 4.0]])
    both = []
    for a in (2.0, -2.0):
        with torch.no_grad():
            method.distance.fill_(a)
        both.append(sum(term.values * term.scale for term in input_terms(method, x) if term.scale is not None))
    assert torch.equal(*both)


def test_infinite_inputs_and_a_distance_of_0_leave_gradients_finite() -> None:
    for a in (1.0, 0.0):
        method = AdaBin(LayerShape((1, 4)))
        with torch.no_grad():
            method.distance.fill_(a)
        x = torch.tensor([[math.inf, -math.inf, 0.0, 0.5]], requires_grad=True)
        terms = input_terms(method, x)
        assert terms[0].values.tolist() == [[1, -1, 1, 1]]
        sum(term.values.sum() * term.scale for term in terms if term.scale is not None).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in (x, method.distance, method.centre))


def test_filters_of_equal_weights_have_a_gradient() -> None:
    w = torch.zeros(1, 4, requires_grad=True)
    real = sum(t.values * t.scale for t in weight_terms(AdaBin(LayerShape((1, 4))), w) if t.scale is not None)
    real.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[1.0] * 4], "of the mean"


def test_padding_is_zero_of_the_real_value_or_its_upper_one_and_packs() -> None:
    torch.manual_seed(0)
    for value in (0, 1):
        layer = BinaryConv2d(4, 6, 3, padding=1, groups=2, stride=2, bias=True, pad_value=value, method=AdaBin).eval()
        with torch.no_grad():
            layer.method.distance.fill_(0.75)
            layer.method.centre.fill_(0.25)
        x = torch.randn(2, 4, 5, 5)
        x[0, :, 0] = 0.25
        w = sum(t.values * t.scale for t in weight_terms(layer.method, layer.weight))
        real = sum(t.values * t.scale for t in input_terms(layer.method, x))
        padded = F.pad(real, (1, 1, 1, 1), value=float(value))  # 0.75 + 0.25
        expected = F.conv2d(padded.double(), w.double(), layer.bias.double(), 2, groups=2)
        assert torch.allclose(layer(x).double(), expected, rtol=0, atol=1e-5)
        model = nn.Sequential(layer)
        packed = pack(model, x)
        assert verify(packed, model, x).logits_identical
        kinds = [node.kind for node in packed.program.nodes]
        assert kinds.count("ones_product") == (2 if value == 0 else 0)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="AdaBin: offset must be one of 'paper', 'released'; got 'code'"):
        AdaBin(LayerShape((1, 4)), offset="code")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="AdaBin: needs 0 < t_min <= t_max"):
        AdaBin(LayerShape((1, 4)), t_min=0.0)
    with pytest.raises(ValueError, match="a filter needs at least 2 weights"):
        AdaBin(LayerShape((4, 1)))
