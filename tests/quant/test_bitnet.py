# SPDX-License-Identifier: Apache-2.0
"""BitNet b1.58: formulas against numbers worked by hand, packing, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bittern.codes import Integers
from bittern.deploy import PackError, pack, verify
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quant import BitNet
from bittern.quantizer import LayerShape, RowCode

SHAPE = LayerShape((2, 3))


def test_weights() -> None:
    """Mean size 1: halves go to the even number, 0 and 2, which is clipped."""
    w = torch.tensor([[0.5, -0.5, 1.5], [-2.5, 0.25, -0.75]], requires_grad=True)
    m = BitNet(SHAPE)
    q = m.weight(w)
    assert q.values.tolist() == [[0, 0, 1], [-1, 0, -1]]
    assert q.scale is not None
    assert q.scale.item() == 1
    doubled = m.weight(2 * w)
    assert torch.equal(doubled.values, q.values)
    assert doubled.scale is not None
    assert doubled.scale.item() == 2
    g = torch.arange(6.0).view(2, 3)
    (found,) = torch.autograd.grad(doubled.values * doubled.scale, w, g)
    assert torch.equal(found, 2 * g)
    zeros = m.weight(torch.zeros(2, 3))
    assert not zeros.values.any()
    assert zeros.scale is not None
    assert zeros.scale.item() == pytest.approx(1e-5)


def test_inputs() -> None:
    x = torch.tensor([[254.0, 1.0, 3.0], [-0.5, 0.25, 0.0]], requires_grad=True)
    m = BitNet(SHAPE)
    q = m.input(x)
    assert q.values.tolist() == [[127, 0, 2], [-127, 64, 0]]  # 0.5 and 1.5, 63.5
    assert q.scale is not None
    assert q.scale.flatten().tolist() == pytest.approx([2, 0.5 / 127])
    g = torch.arange(1.0, 7.0).view(2, 3)
    (found,) = torch.autograd.grad(q.values * q.scale, x, g)
    assert torch.allclose(found, g, rtol=1e-6)
    assert m.input_code() == RowCode()
    assert m.input_code().grid == Integers(-128, 127)


def test_a_layer_is_the_product_of_its_real_operands() -> None:
    torch.manual_seed(0)
    layer, x = BinaryLinear(65, 7, bias=True, method=BitNet).double(), torch.randn(4, 3, 65, dtype=torch.float64)
    w_q, x_q = layer.method.weight(layer.weight), layer.method.input(x.view(12, 65))
    assert w_q.scale is not None
    assert x_q.scale is not None
    exact = nn.functional.linear(x_q.values * x_q.scale, w_q.values * w_q.scale, layer.bias)
    assert torch.allclose(layer(x).view(12, 7), exact, rtol=1e-12, atol=1e-12)


def test_packed_equals_trained() -> None:
    """Ties, a row of zeros, rows of several tokens, bias, and a layer behind it."""
    torch.manual_seed(0)
    model = nn.Sequential(BinaryLinear(65, 33, bias=True, method=BitNet), nn.ReLU(), BinaryLinear(33, 7, method=BitNet))
    x = torch.randn(2, 3, 65)
    x[0, 0], x[0, 1, :4] = 0.0, torch.tensor([127.0, 0.5, -1.5, -0.0])
    report = verify(pack(model.eval(), x), model, x)
    assert report.exact
    assert report.logits_identical


def test_what_has_no_rows_or_too_many_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="BinaryConv2d: BitNet scales each row of a linear layer's input"):
        BinaryConv2d(4, 4, 3, method=BitNet)
    wide = nn.Sequential(BinaryLinear(32897, 1, method=BitNet))
    with pytest.raises(PackError, match="beyond 2\\^24"):
        pack(wide, torch.randn(1, 32897))
