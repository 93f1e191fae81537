# SPDX-License-Identifier: Apache-2.0
"""Real-to-Binary's gate by hand, in every kind of layer, in packed programs and in the stage with real weights."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from _tolerance import assert_elementwise
from bittern.binary import BNN, RealToBinary
from bittern.deploy import pack, to_c, verify
from bittern.nn import BinaryConv2d, BinaryLinear, summary
from bittern.nn.parameters import parameter_groups
from bittern.quantizer import LayerShape
from bittern.start import GlorotNormal
from bittern.train.real_weights import use_real_weights


def gate_by_hand(method: RealToBinary, means: list[float]) -> list[float]:
    """sigmoid(E relu(R m)) by plain loops."""
    reduce, expand = method.reduce.tolist(), method.expand.tolist()
    hidden = [max(0.0, math.fsum(r * m for r, m in zip(row, means, strict=True))) for row in reduce]
    sums = [math.fsum(e * h for e, h in zip(row, hidden, strict=True)) for row in expand]
    return [1.0 / (1.0 + math.exp(-s)) for s in sums]


def test_numbers_of_one_layer() -> None:
    """Two channels, two outputs, one hidden unit: x = (1, 3) and (-2, 0), means 2 and -1."""
    layer = BinaryConv2d(2, 2, 1, bias=True, method=RealToBinary)
    assert isinstance(layer.method, RealToBinary)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.25], [-3.0, -1.0]])[:, :, None, None])
        layer.bias.copy_(torch.tensor([10.0, 20.0]))
        layer.method.reduce.copy_(torch.tensor([[1.0, 0.5]]))  # 2 - 0.5 = 1.5
        layer.method.expand.copy_(torch.tensor([[2.0], [-1.0]]))  # 3, -1.5
    y = layer(torch.tensor([[[[1.0, 3.0]], [[-2.0, 0.0]]]]))
    g = [1 / (1 + math.exp(-3.0)), 1 / (1 + math.exp(1.5))]
    # signs (1, -1) and (1, 1): products 2, 0 of the first filter (1, -1), and 0, -2 of the second (-1, -1)
    expected = torch.tensor([[[[10 + 2 * g[0], 10.0]], [[20.0, 20 - 2 * g[1]]]]], dtype=torch.float64)
    assert_elementwise(y.detach(), expected, 8, 30.0)


def test_gradients_are_those_of_the_clipped_signs_and_of_the_gate() -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(4, 3, 3, padding=1, stride=2, groups=1, method=RealToBinary).double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64).mul_(1.2).requires_grad_()
    method, upstream = layer.method, torch.randn(2, 3, 3, 3, dtype=torch.float64)
    assert isinstance(method, RealToBinary)
    (layer(x) * upstream).sum().backward()
    # the same with leaves in place of the signs, by autograd alone
    signs = torch.where(x.detach() >= 0, 1.0, -1.0).double().requires_grad_()
    filters = torch.where(layer.weight.detach() >= 0, 1.0, -1.0).double().requires_grad_()
    real = x.detach().clone().requires_grad_()
    gate = torch.sigmoid(torch.relu(real.mean((2, 3)) @ method.reduce.detach().T) @ method.expand.detach().T)
    y = nn.functional.conv2d(signs, filters, None, 2, 1) * gate[:, :, None, None]
    (y * upstream).sum().backward()
    expected = signs.grad * (x.detach().abs() <= 1) + real.grad
    assert torch.allclose(x.grad, expected, rtol=0, atol=1e-12)
    assert torch.allclose(layer.weight.grad, filters.grad * (layer.weight.detach().abs() <= 1), rtol=0, atol=1e-12)
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in (method.reduce, method.expand))


def test_a_linear_layer_has_a_gate_for_each_row() -> None:
    torch.manual_seed(0)
    layer = BinaryLinear(9, 5, bias=True, method=RealToBinary)
    assert isinstance(layer.method, RealToBinary)
    x = torch.randn(2, 3, 9)
    y = layer(x)
    for i in range(2):
        for j in range(3):
            g = gate_by_hand(layer.method, x[i, j].tolist())
            signs = [[1.0 if v >= 0 else -1.0 for v in row] for row in (x[i, j].tolist(), *layer.weight.tolist())]
            sums = [sum(a * b for a, b in zip(signs[0], row, strict=True)) for row in signs[1:]]
            values = [s * f + b for s, f, b in zip(sums, g, layer.bias.tolist(), strict=True)]
            assert_elementwise(y[i, j].detach(), torch.tensor(values, dtype=torch.float64), 32, 12.0)


class Gated(nn.Module):
    """Groups, stride, both kinds of padding, biases, rows of tokens, and one layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = BinaryConv2d(8, 16, 3, 2, 1, groups=2, bias=True, method=RealToBinary)
        self.act = nn.PReLU(16)
        self.again = BinaryConv2d(16, 16, 3, padding=1, padding_mode="reflect", method=RealToBinary)
        self.even = BinaryConv2d(16, 6, 2, padding="same", pad_value=1, method=RealToBinary)
        self.rows = BinaryLinear(6, 5, bias=True, method=RealToBinary)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        x = self.even(self.again(x) + self.again(x.flip(1)))
        return self.rows(x.flatten(2).transpose(1, 2)).flatten(1)


def test_it_packs_to_the_bit_and_a_gate_sees_the_unpadded_input() -> None:
    torch.manual_seed(0)
    model, x = Gated().eval(), torch.randn(3, 8, 9, 7)
    x[0, :, 0], x[1, 0] = 0.0, -0.0
    with torch.no_grad():
        model.first.weight[0, 0, 0, 0] = 0.0
    packed = pack(model, x[:1])
    assert torch.equal(packed(x), model(x))
    assert verify(packed, model, x).exact
    names = [node.kind for node in packed.program.nodes]
    assert names.count("sigmoid") == 5
    inner = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    layer = BinaryConv2d(8, 4, 3, padding=1, padding_mode="reflect", method=RealToBinary).eval()
    plain = BinaryConv2d(8, 4, 3, method=RealToBinary).eval()
    plain.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), plain.product(inner) * layer.method.gate(x))


def test_c_takes_a_gate_and_a_bias_behind_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for bias in (False, True):
        model = nn.Sequential(BinaryConv2d(8, 16, 3, padding=1, bias=bias, method=RealToBinary), nn.Flatten()).eval()
        packed = pack(model, torch.randn(1, 8, 4, 4))
        assert "aten" not in [node.kind for node in packed.program.nodes]
        to_c(packed, tmp_path / "net.c")


def test_with_real_weights_the_gate_stays() -> None:
    torch.manual_seed(0)
    layer = nn.Sequential(BinaryConv2d(8, 4, 3, padding=1, bias=True, method=RealToBinary))
    real, x = use_real_weights(copy.deepcopy(layer)), torch.randn(2, 8, 5, 5)
    signs = torch.where(x >= 0, 1.0, -1.0)
    expected = nn.functional.conv2d(signs, layer[0].weight, None, padding=1) * layer[0].method.gate(x)
    assert torch.equal(real(x), expected + layer[0].bias.view(1, -1, 1, 1))
    assert layer.state_dict().keys() == real.state_dict().keys()


def test_a_method_whose_gate_is_none_keeps_its_bias() -> None:
    class Ungated(RealToBinary):
        def gate(self, x: Tensor) -> None:  # type: ignore[override]
            return None

    torch.manual_seed(0)
    for layer, x in (
        (BinaryConv2d(4, 3, 3, bias=True, method=Ungated), torch.randn(2, 4, 5, 5)),
        (BinaryLinear(4, 3, bias=True, method=Ungated), torch.randn(2, 6, 4)),
    ):
        plain = type(layer)(*layer.weight.shape[1::-1], *layer.weight.shape[2:3], bias=True, method=BNN)
        plain.weight, plain.bias = layer.weight, layer.bias
        assert torch.equal(layer(x), plain(x))


def test_sizes_start_and_cost() -> None:
    torch.manual_seed(0)
    method = RealToBinary(LayerShape((32, 64, 3, 3)))
    assert method.reduce.shape == (8, 64)
    assert method.expand.shape == (32, 8)
    assert RealToBinary(LayerShape((2, 3, 1, 1))).reduce.shape == (1, 3)
    assert RealToBinary(LayerShape((2, 16, 1, 1), groups=2), reduction=4).reduce.shape == (8, 32)
    assert float(method.reduce.detach().std()) == pytest.approx((2 / 64) ** 0.5, rel=0.1)
    assert isinstance(method.start, GlorotNormal)
    model = nn.Sequential(BinaryConv2d(64, 32, 3, padding=1, method=RealToBinary))
    report = summary(model, torch.zeros(1, 64, 5, 5))
    assert (report.fmac, report.float_params) == (64 * 8 + 8 * 32,) * 2
    rows = summary(nn.Sequential(BinaryLinear(16, 4, method=RealToBinary)), torch.zeros(1, 7, 16))
    assert rows.fmac == 7 * (16 * 2 + 2 * 4)
    groups = {group["name"]: len(group["params"]) for group in parameter_groups(model, 1.0)}
    assert groups == {"latent": 1, "other": 2}
    with pytest.raises(ValueError, match="RealToBinary: reduction must be an integer of at least 1; got 0"):
        RealToBinary(LayerShape((2, 3)), reduction=0)
