# SPDX-License-Identifier: Apache-2.0
"""What holds for every method whose weights alone have few bits."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bittern
from _quant import METHODS, randomize, real_weight
from _tolerance import assert_elementwise, assert_exact, assert_reduction
from bittern import quant
from bittern.codes import Reals
from bittern.deploy import pack, to_c, verify
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear
from bittern.quant import BWN, OneBit
from bittern.quantizer import LayerShape, Method, RealCode, weight_codes, weight_terms

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def test_all_names_every_method_once() -> None:
    names = ["BWN", "TWN", "TTQ", "Alternating", "OneBit", "ParetoQ", "BitNet"]
    names += ["DynamicFixedPoint", "IntegerOnly", "FQN", "PACT", "LSQ", "TQT", "LSQPlus"]
    names += ["WAGE", "GFPQ", "MSFP", "UI8"]
    assert [cls.__name__ for cls in quant.ALL] == names
    public = {name for name in quant.__all__ if isinstance(getattr(quant, name), type)}
    assert {cls.__name__ for cls in quant.ALL} == public


@every_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_are_on_their_grids_and_inputs_stay(method: Method, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    w = torch.cat([torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 2.5, -2.5]), torch.randn(42)]).view(2, 5, 5)
    m, w, x = method(LayerShape((2, 5, 5))).to(dtype), w.to(dtype), torch.randn(2, 5, 7).to(dtype)
    for training in (False, True, False):
        terms = weight_terms(m.train(training), w)
        for code, term in zip(weight_codes(m), terms, strict=True):
            assert code.contains(term.values)
            assert not isinstance(code, Reals)
            assert code.scale.holds(term.scale, w.shape)
            assert term.values.dtype == dtype
        assert sum(len(term.values.unique()) for term in terms) > 1
    code, x_q = m.input_code(), m.input(x)
    assert isinstance(code, RealCode)
    assert code.grid == Reals()
    assert m.input_bits == code.grid.bits
    assert torch.equal(x_q.values, x if code.gain is None else x * code.gain[:, None])
    assert x_q.scale is None


GEOMETRIES: dict[str, dict[str, object]] = {
    "plain": {},
    "all": {"bias": True, "groups": 2, "dilation": 2, "stride": (2, 1), "padding": 2},
}


@every_method
@pytest.mark.parametrize("options", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_a_layer_is_torchs_convolution_of_its_real_weight(method: Method, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    layer = BinaryConv2d(4, 6, 3, **options, method=method)  # type: ignore[arg-type]
    randomize(layer.method)
    x, m, g = torch.randn(2, 4, 7, 8), layer.eval().method, layer.geometry
    w = real_weight(m, layer.weight).double()
    gained = m.input(x).values.double()
    bias = None if layer.bias is None else layer.bias.double()
    exact = F.conv2d(gained, w, bias, g.stride, g.padding, g.dilation, g.groups).detach()
    assert_elementwise(layer(x).detach(), exact.detach(), 64, float(exact.abs().max()))


@every_method
def test_conv1x1_equals_linear_and_1d_equals_2d(method: Method) -> None:
    torch.manual_seed(0)
    linear = BinaryLinear(7, 6, bias=True, method=method)
    randomize(linear.method)
    one, two = BinaryConv1d(7, 6, 1, bias=True, method=method), BinaryConv2d(7, 6, 1, bias=True, method=method)
    x, g = torch.randn(33, 7), torch.randn(33, 6)
    rows = x.clone().requires_grad_()
    y = linear(rows)
    y.backward(g)
    for conv in (one, two):
        ones = (1,) * len(conv.kernel_size)
        state = linear.state_dict()
        conv.load_state_dict(state | {"weight": state["weight"].view(6, 7, *ones)})
        pixels = x.view(33, 7, *ones).clone().requires_grad_()
        z = conv(pixels)
        z.backward(g.view(33, 6, *ones))
        assert_reduction(z.detach().flatten(1), y.detach().double(), 7, 3.0)
        for a, b in ((pixels.grad, rows.grad), (conv.weight.grad, linear.weight.grad)):
            assert a is not None
            assert b is not None
            assert_reduction(a.view(b.shape), b.double(), 33, float(b.abs().max()))
        for a, b in zip(conv.method.parameters(), linear.method.parameters(), strict=True):
            assert a.grad is not None
            assert b.grad is not None
            assert_reduction(a.grad, b.grad.double(), 33 * 42, float(b.grad.abs().max()))


@every_method
def test_gradients_of_infinite_inputs_and_an_empty_batch(method: Method) -> None:
    layer = BinaryConv2d(4, 6, 3, method=method)
    x = torch.zeros(0, 4, 6, 6, requires_grad=True)
    y = layer(x)
    assert y.shape == (0, 6, 4, 4)
    y.sum().backward()
    m = layer.method.eval()
    x = torch.full((1, 4, 1, 1), float("inf")).requires_grad_()
    (found,) = torch.autograd.grad(m.input(x).values.sum(), x)
    assert torch.equal(found, torch.ones_like(found))


@every_method
def test_a_layer_of_zeros_does_nothing_and_breaks_nothing(method: Method) -> None:
    layer = BinaryLinear(4, 3, method=method)
    nn.init.zeros_(layer.weight)
    x = torch.randn(2, 4)
    y = layer(x)
    assert y.isfinite().all()
    y.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.method.parameters())


@every_method
def test_it_packs_and_verifies(method: Method, tmp_path: Path) -> None:
    """Padding, groups, stride, a bias, rows, exact zeros among inputs, and a ReLU in front."""
    torch.manual_seed(1)
    model = nn.Sequential(
        BinaryConv2d(3, 10, 3, padding=1, stride=2, bias=True, method=method),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        BinaryConv2d(10, 5, (1, 3), groups=5, padding=(0, 2), method=method),
        nn.Flatten(),
        BinaryLinear(5 * 4 * 6, 3, bias=True, method=method),
    )
    for module in model:
        if isinstance(module, (BinaryConv2d, BinaryLinear)):
            randomize(module.method)
    x = torch.randn(2, 3, 7, 7)
    x[0, :, 2:4] = 0.0
    before = copy.deepcopy(model.eval().state_dict())
    packed = pack(model, x)
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    assert_exact(from_bytes(packed.to_bytes())(x), model(x).detach())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    to_c(packed, tmp_path / "net.c")


def test_bits_in_a_file() -> None:
    """64 x 8 weights and what stands beside them: scales, and OneBit's factors of inputs."""
    sizes = {
        name: pack(nn.Sequential(BinaryLinear(64, 8, method=method)), torch.randn(1, 64)).nbytes
        for name, method in METHODS.items()
    }
    plane, row = 64, 8 * 4
    assert sizes == {
        "BWN": plane + row,
        "TWN": 2 * plane + row,
        "TWN-filter": 2 * plane + row,
        "TTQ": 2 * (plane + row) - row,  # the scales of both terms are alike, and stored once
        "Alternating": 2 * (plane + row),
        "OneBit": plane + row + 64 * 4,
        "ParetoQ": plane + row,
        "ParetoQ-3": 2 * plane + row,
        "ParetoQ-4": 2 * plane + row,
        "ParetoQ-8": 3 * plane + row,
        "ParetoQ-16": 4 * plane + row,
    }


@every_method
def test_convert_trains(method: Method) -> None:
    torch.manual_seed(4)
    x, classes = torch.randn(64, 20), torch.arange(64) % 4
    hidden = [nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU()]
    model = nn.Sequential(nn.Linear(20, 32), *hidden, nn.Linear(16, 4))
    model = bittern.convert(model, method)
    assert isinstance(model[3], BinaryLinear)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_strange_methods_are_not_confused() -> None:
    assert weight_codes(BWN(LayerShape((2, 3))))[0].bits == 1
    assert OneBit(LayerShape((2, 3))).weight_bits == 1
