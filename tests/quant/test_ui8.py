# SPDX-License-Identifier: Apache-2.0
"""UI8: operands and gradients against numbers worked by hand, learning rates of layers, a packed layer."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn

from bittern import optim
from bittern.deploy import pack, verify
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quant import UI8, deviations
from bittern.quant.ui8 import best_clip, deviation, int8_gradient
from bittern.quantizer import LayerShape


def test_operands_by_hand() -> None:
    m = UI8(LayerShape((1, 4))).train()
    w = torch.tensor([[127.0, -63.5, 0.5, 1.5]], requires_grad=True)
    q = m.weight(w)
    assert q.values.tolist() == [[127, -64, 0, 2]]
    assert q.scale is not None
    assert q.scale.item() == 1.0
    (found,) = torch.autograd.grad(q.values * q.scale, w, torch.arange(4.0)[None])
    assert found.tolist() == [[0, 1, 2, 3]]
    m.input(torch.tensor([[254.0, 1.0, 3.0, -254.0]]))
    x = m.input(torch.tensor([[127.0, 1.0, 3.0, -127.0]]))
    assert x.values.tolist() == [[127, 1, 3, -127]]
    assert m.largest_input.item() == pytest.approx(0.9 * 254 + 0.1 * 127)
    seen = m.eval().input(torch.tensor([[1000.0, -1000.0, float("nan"), 0.0]]))
    assert seen.values.tolist() == [[127, -127, 0, 0]]
    assert torch.equal(m.input_code().values(torch.tensor([5.0, 7.0])), m.input(torch.tensor([5.0, 7.0])).values)
    zeros = m.weight(torch.zeros(1, 4))
    assert not zeros.values.any()


def test_gradients_by_hand() -> None:
    g, u = torch.tensor([12.7, -0.04, 0.16, 3.0, 20.0]), torch.full((5,), 0.5)
    q = int8_gradient(g, torch.tensor(12.7), u)  # steps of 0.1
    assert q.tolist() == pytest.approx([12.7, 0.0, 0.2, 3.0, 12.7], abs=1e-5)
    assert deviation(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])).item() == pytest.approx(1 - 0.5**0.5)
    assert deviation(torch.tensor([1.0]), torch.tensor([0.0])).item() == 1.0


def test_rounding_has_the_mean() -> None:
    torch.manual_seed(0)
    q = int8_gradient(torch.full((4000,), 0.3), torch.tensor(127.0), torch.rand(4000))
    assert abs(float(q.mean()) - 0.3) <= 5 * math.sqrt(0.3 * 0.7 / 4000)


def test_clip_has_the_least_deviation_of_all() -> None:
    torch.manual_seed(0)
    g = torch.cat([torch.randn(20_000) * 0.01, torch.tensor([1.0])])
    u = torch.rand_like(g)
    clip = best_clip(g, u)
    tried = [float(deviation(g, int8_gradient(g, g.abs().max() * i / 20, u))) for i in range(1, 21)]
    assert float(clip) == pytest.approx(float(g.abs().max()) * (tried.index(min(tried)) + 1) / 20)
    assert min(tried) < tried[-1]  # an outlier is clipped


def test_a_layer_rounds_its_gradient_and_tells_by_how_much() -> None:
    torch.manual_seed(0)
    layer = BinaryLinear(6, 5, method=partial(UI8, period=2))
    method = layer.method
    assert isinstance(method, UI8)
    y = layer(torch.randn(7, 6))
    y.backward(torch.randn(7, 5))
    assert deviations(layer) == {"": method.deviation.item()}
    assert 0.0 < method.deviation.item() < 0.01
    first, clip = method.rate_factor(), method.clip.item()
    assert first == pytest.approx(math.exp(-20 * method.deviation.item()))
    layer(torch.randn(7, 6)).backward(100 * torch.randn(7, 5))
    assert method.clip.item() == clip  # until the next period
    assert method.rate_factor() < 0.9  # far beyond the clip
    layer(torch.randn(7, 6)).backward(100 * torch.randn(7, 5))
    assert method.clip.item() > 10 * clip
    layer(torch.randn(7, 6)).backward(torch.zeros(7, 5))
    assert method.deviation.item() == 0.0
    assert UI8(LayerShape((2, 3)), rate_scaling=False).rate_factor() == 1.0
    state = copy.deepcopy(layer.state_dict())
    other = BinaryLinear(6, 5, method=UI8)
    other.load_state_dict(state)
    assert torch.equal(other.method.clip, method.clip)  # type: ignore[arg-type]


def test_rates_of_layers() -> None:
    model = nn.Sequential(BinaryLinear(4, 3, bias=True, method=UI8), nn.Linear(3, 2))
    optimizer = optim.LayerRates(torch.optim.SGD)(model=model, lr=0.5)
    assert [group["rate_of"] for group in optimizer.param_groups] == ["", "0"]
    method = model[0].method
    method.deviation.fill_(10.0)  # the factor is beta
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    moved = [float((b - p.detach()).mean()) for b, p in zip(before, model.parameters(), strict=True)]
    assert moved == pytest.approx([0.05, 0.5, 0.5, 0.5], rel=1e-4)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
    again = optim.LayerRates(torch.optim.SGD)(model=model, lr=0.5)
    again.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match="no layer of the model has a method with a rate_factor"):
        optim.LayerRates(torch.optim.SGD)(model=nn.Linear(2, 2))
    assert repr(optim.LayerRates(partial(torch.optim.SGD, momentum=0.9))) == "LayerRates(SGD(momentum=0.9))"


def test_it_packs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        BinaryConv2d(3, 8, 3, padding=1, bias=True, method=UI8),
        nn.ReLU(),
        nn.Flatten(),
        BinaryLinear(8 * 35, 3, method=UI8),
    )
    x = torch.randn(4, 3, 5, 7)
    model.train()(x).sum().backward()
    model.eval()
    report = verify(pack(model, 2 * x), model, 2 * x)  # beyond what was seen
    assert report.exact
    assert report.logits_identical


def test_options_are_checked() -> None:
    for options in ({"period": 0}, {"alpha": -1.0}, {"beta": 2.0}, {"decay": 1.0}, {"clipping": "mse"}):
        with pytest.raises(ValueError, match=f"UI8: .*{next(iter(options))}"):
            UI8(LayerShape((2, 3)), **options)  # type: ignore[arg-type]
