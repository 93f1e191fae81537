# SPDX-License-Identifier: Apache-2.0
"""A&B BNN: the formulas against numbers worked by hand, and its network without norms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from bittern.binary import ABBNN
from bittern.deploy import pack, verify
from bittern.models import ab_resnet18
from bittern.models.ab_resnet import ABResNet
from bittern.nn import BinaryConv2d
from bittern.quantizer import LayerShape, Quantized

W = torch.tensor([[1.0, -1.0, 3.0, -3.0], [0.5, 0.5, 0.5, 0.5]])


def test_weights_by_hand() -> None:
    """Mean 0, deviation sqrt(5): V = W / sqrt(5) / 2, |V| = 0.2236, 0.6708, on average 0.4472."""
    method = ABBNN(shape_of(W))
    with torch.no_grad():
        method.gain.copy_(torch.tensor([2.0, 3.0]))
    q = method.weight(W)
    assert isinstance(q, Quantized)
    assert q.values.tolist() == [[1, -1, 1, -1], [1, 1, 1, 1]]
    assert q.scale is not None
    assert q.scale.flatten().tolist() == pytest.approx([2 / math.sqrt(5), 0.0], rel=1e-4)
    # u = gain g = (2, 0, 0, 0); dW = (u - mean(u) - W (u . W) / (4 * 5)) / sqrt(5) / 2
    g = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 2.0, 0.0, 0.0]])
    found = scaled_weight_gradient(method, W, g)
    assert found[0].tolist() == pytest.approx([x / math.sqrt(5) / 2 for x in (1.4, -0.4, -0.8, -0.2)], rel=1e-4)
    assert found[1].tolist() == [0, 0, 0, 0]
    (q.values * q.scale)[0, :2].sum().backward()
    assert method.gain.grad is not None
    assert method.gain.grad.tolist() == [0, 0], "mean |V| (1 - 1)"
    moved = method.weight(W + 7.0)
    assert isinstance(moved, Quantized)
    assert torch.equal(moved.values, q.values)


def test_inputs_by_hand() -> None:
    """The derivative of 2 sigmoid(3 v): 6 s (1 - s)."""
    x = torch.tensor([[-1.0, 0.0, -0.5, 2.0]])
    method = ABBNN(shape_of(W))
    with torch.no_grad():
        method.shift.copy_(torch.tensor([0.0, 0.0, 0.5, -2.5]))  # type: ignore[union-attr]
    q = method.input(x)
    assert q.values.tolist() == [[-1, 1, 1, -1]]
    s = [1 / (1 + math.exp(-3 * v)) for v in (-1.0, 0.0, 0.0, -0.5)]
    found = scaled_input_gradient(method, x, torch.full_like(x, 2.0))
    assert found[0].tolist() == pytest.approx([12 * p * (1 - p) for p in s], rel=1e-5)


def test_real_inputs_pack() -> None:
    """As on the authors' shortcuts: bits of weights, inputs as they are."""
    torch.manual_seed(0)
    x = torch.randn(2, 4, 5, 5)
    model = nn.Sequential(BinaryConv2d(4, 3, 1, method=lambda shape: ABBNN(shape, inputs="real"))).eval()
    assert model[0].method.shift is None
    assert verify(pack(model, x), model, x).exact


def test_network_without_norms() -> None:
    """As many parameters as the authors print, 11.18 million for ten classes; a small one packs exactly."""
    model = ab_resnet18(ABBNN, 10, input_size=32)
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}" == "11.18"
    betas = [block.beta for block in model.blocks]
    assert betas[:6] == pytest.approx([1, 1, (17 / 16) ** -0.5, (18 / 16) ** -0.5, (19 / 16) ** -0.5, 1])
    torch.manual_seed(0)
    small = ABResNet(ABBNN, 3, 2, 9, widths=(4, 6), depths=(2, 2))
    x = torch.randn(4, 2, 9, 9)
    small(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())
    assert verify(pack(small.eval(), x), small, x).exact
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="ABBNN: centers each filter, so a filter needs at least 2 weights"):
        ABBNN(LayerShape((3, 1, 1, 1)))
    with pytest.raises(ValueError, match="ABBNN: inputs must be one of 'signs', 'real'; got 'bits'"):
        ABBNN(shape_of(W), inputs="bits")  # type: ignore[arg-type]
