# SPDX-License-Identifier: Apache-2.0
"""HORQ against numbers worked by hand from arXiv 1708.08687's definitions."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from _tolerance import assert_exact
from bittern.binary import HORQ, XNORNet
from bittern.deploy import pack, verify
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quantizer import InputScale, LayerShape, SignCode, input_terms

X = torch.tensor([[3.0, -1.0, 0.0, -2.0]])
W = torch.tensor([[0.5, -0.25, 0.25, -1.0]])


def test_planes_by_hand() -> None:
    """R_1 = (1.5, 0.5, -1.5, -0.5), R_2 = (0.5, -0.5, -0.5, 0.5), R_3 = 0."""
    method = HORQ(LayerShape((1, 4)), order=3)
    planes = input_terms(method, X)
    assert [p.values.tolist() for p in planes] == [[[1, -1, 1, -1]], [[1, 1, -1, -1]], [[1, -1, -1, 1]]]
    assert [p.scale.item() for p in planes if p.scale is not None] == [1.5, 1.0, 0.5]
    assert torch.equal(sum(p.values * p.scale for p in planes if p.scale is not None), X)
    assert method.input_code() == tuple(SignCode(scale=InputScale.SPATIAL, order=i) for i in range(3))


def test_layer_and_gradients_by_hand() -> None:
    """alpha = 1/2; dx_j = alpha sign(W_j) sum_i beta_i 1{|R_(i-1), j| <= 1}; dW_j = x_j (1/4 + alpha 1{|W_j| <= 1})."""
    layer = BinaryLinear(4, 1, method=partial(HORQ, order=3))
    with torch.no_grad():
        layer.weight.copy_(W)
    x = X.clone().requires_grad_()
    y = layer(x)
    y.backward()
    assert y.item() == 3.0
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert x.grad.tolist() == [[0.25, -1.5, 1.0, -0.75]]
    assert layer.weight.grad.tolist() == [[2.25, -0.75, 0.0, -1.5]]


@pytest.mark.parametrize("scale", [InputScale.SPATIAL, InputScale.PER_SAMPLE])
def test_the_first_order_is_xnor_net(scale: InputScale) -> None:
    torch.manual_seed(0)
    one = BinaryConv2d(4, 6, 3, padding=1, method=partial(HORQ, order=1, input_scale=scale))
    other = BinaryConv2d(4, 6, 3, padding=1, method=partial(XNORNet, input_scale=scale))
    other.load_state_dict(one.state_dict())
    found = []
    for layer in (one, other):
        x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        found.append((y.detach(), x.grad, layer.weight.grad))
    for a, b in zip(*found, strict=True):
        assert_exact(a, b)


@pytest.mark.parametrize("value", [-1, 1])
def test_each_plane_is_padded_with_the_same_sign_and_packs(value: int) -> None:
    torch.manual_seed(0)
    method = partial(HORQ, input_scale=InputScale.PER_SAMPLE)
    layer = BinaryConv2d(3, 4, 3, padding=1, pad_value=value, stride=2, method=method).eval()
    x = torch.randn(2, 3, 5, 5)
    x[0, :, 0] = 0.0
    w = layer.method.weight(layer.weight)
    expected = torch.zeros(2, 4, 3, 3, dtype=torch.float64)
    for plane in input_terms(layer.method, x):
        acc = F.conv2d(F.pad(plane.values, (1, 1, 1, 1), value=value), w.values, None, 2)
        expected += acc.double() * w.scale.view(1, -1, 1, 1).double() * plane.scale.double()
    assert torch.allclose(layer(x).double(), expected, rtol=0, atol=1e-5)
    model = nn.Sequential(layer)
    assert verify(pack(model, x), model, x).logits_identical


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="HORQ: order must be an integer from 1 to 8; got 0"):
        HORQ(LayerShape((1, 4)), order=0)
    with pytest.raises(ValueError, match=r"HORQ: input_scale must be one of .*; got InputScale\.NONE|<InputScale"):
        HORQ(LayerShape((1, 4)), input_scale=InputScale.NONE)
