# SPDX-License-Identifier: Apache-2.0
"""BMXNet's layers of k bits: the formulas by hand, and where they stop to pack."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from _binary import scaled_input_gradient, scaled_weight_gradient, shape_of
from bittern.binary import BMXNet, DoReFa
from bittern.deploy import PackError, pack, verify
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quantizer import Quantized

W = torch.tensor([[0.5, -0.0, -2.0], [0.25, -1.0, 0.0]])
X = torch.tensor([[-1.5, -0.0, 0.2], [0.5, 0.9, 7.0]])


def test_one_bit_by_hand() -> None:
    method = BMXNet(shape_of(W))
    w, x = method.weight(W), method.input(X)
    assert isinstance(w, Quantized)
    assert w.values.tolist() == [[1, 1, -1], [1, -1, 1]]
    assert w.scale is x.scale is None
    assert x.values.tolist() == [[-1, 1, 1], [1, 1, 1]]
    g = torch.full_like(X, 3.0)
    assert torch.equal(scaled_weight_gradient(method, W, g), g)
    assert scaled_input_gradient(method, X, g).tolist() == [[0, 3, 3], [3, 3, 0]]


def test_two_bits_by_hand() -> None:
    """tanh(w) / (2 tanh 2) + 1/2 = .740, .5, 0 | .627, .105, .5; times 3, half to even: 2, 2, 0 | 2, 0, 2."""
    method = BMXNet(shape_of(W), weight_bits=2, input_bits=2)
    w, x = method.weight(W), method.input(X)
    assert isinstance(w, Quantized)
    assert w.values.tolist() == [[1, 1, -3], [1, -3, 1]]
    assert x.values.tolist() == [[0, 0, 1], [2, 3, 3]]
    assert w.scale is not None
    assert x.scale is not None
    assert w.scale.item() == x.scale.item() == pytest.approx(1 / 3)
    g = torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])
    assert scaled_weight_gradient(method, W, g).flatten().tolist() == pytest.approx(g.flatten().tolist())
    assert scaled_input_gradient(method, X, g).flatten().tolist() == pytest.approx(g.flatten().tolist())


@pytest.mark.parametrize("bits", [3, 8])
def test_the_numbers_are_dorefas(bits: int) -> None:
    torch.manual_seed(0)
    w, x = torch.randn(5, 7), torch.randn(4, 7)
    mine, dorefa = (cls(shape_of(w), weight_bits=bits, input_bits=bits) for cls in (BMXNet, DoReFa))
    for found, expected in ((mine.weight(w), dorefa.weight(w)), (mine.input(x), dorefa.input(x))):
        assert isinstance(found, Quantized)
        assert torch.equal(found.values, expected.values)
        assert torch.equal(found.scale, expected.scale)  # type: ignore[arg-type]


def test_levels_pack() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(BinaryConv2d(3, 5, 3, padding=1, method=partial(BMXNet, weight_bits=2, input_bits=3))).eval()
    x = torch.rand(3, 3, 5, 5)
    assert verify(pack(model, x), model, x).exact


@pytest.mark.parametrize(
    ("features", "bits", "message"),
    [
        (4, {"weight_bits": 9}, "layer '0' has weights of 9 bits; at most 8 are packed"),
        (4, {"input_bits": 31}, "layer '0' has inputs of 31 bits; at most 8 are packed"),
        (259, {"weight_bits": 8, "input_bits": 8}, "layer '0' reaches accumulators of 16841475, beyond 2"),
    ],
)
def test_what_does_not_fit_trains_and_is_refused_by_name(features: int, bits: dict[str, int], message: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(BinaryLinear(features, 3, method=partial(BMXNet, **bits)))
    x = torch.rand(2, features)
    y = model(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    grad = model[0].weight.grad
    assert grad is not None
    assert grad.isfinite().all()
    with pytest.raises(PackError, match=message):
        pack(model.eval(), x)


def test_bits_that_there_are_not() -> None:
    with pytest.raises(ValueError, match="BMXNet: input_bits must be an integer from 1 to 31; got 32"):
        BMXNet(shape_of(W), input_bits=32)
