# SPDX-License-Identifier: Apache-2.0
"""Expert convolutions: one sample at a time by hand, the gradient of the choice, training against packed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bittern.deploy import pack, verify
from bittern.models import ExpertConv2d


def layer() -> tuple[ExpertConv2d, torch.Tensor]:
    torch.manual_seed(3)
    made = ExpertConv2d(4, 8, 3, stride=2, padding=1, groups=2, experts=3)
    with torch.no_grad():
        made.scale.uniform_(0.5, 1.5)
        made.select.weight.mul_(20.0)
        made.experts[0].weight[0, 0, 0, 0] = 1.5  # beyond the mask
    return made, torch.randn(6, 4, 5, 7)


def test_each_sample_has_its_own_weight_and_the_choice_learns() -> None:
    made, x = layer()
    x.requires_grad_()
    chosen = torch.sigmoid(made.select(x.detach().mean((2, 3)))).argmax(1)
    assert len(chosen.unique()) > 1
    seen: list[torch.Tensor] = []
    made.select.register_forward_hook(lambda module, inputs, output: seen.append(output) or output.retain_grad())
    y = made(x)
    g = torch.randn_like(y)
    y.backward(g)
    for sample in range(len(x)):
        image, weight = x.detach()[sample : sample + 1], made.experts[int(chosen[sample])].weight.detach()
        signs = torch.where(weight >= 0, 1.0, -1.0).requires_grad_()
        m = image.mean((2, 3))
        factors = torch.sigmoid(made.widen(F.relu(made.narrow(m)))).detach() * made.scale.detach()
        product = F.conv2d(torch.where(image >= 0, 1.0, -1.0), signs, None, 2, 1, groups=2)
        expected = product * factors[:, :, None, None]
        assert torch.allclose(y[sample : sample + 1], expected, atol=1e-5)
        expected.backward(g[sample : sample + 1])
        assert signs.grad is not None
        to_weight = signs.grad * (weight.abs() <= 1)
        p = torch.sigmoid(seen[0].detach()[sample])
        to_choice = torch.stack([(to_weight * expert.weight.detach()).sum() for expert in made.experts])
        assert seen[0].grad is not None
        assert torch.allclose(seen[0].grad[sample], to_choice * p * (1 - p), atol=1e-4)


def test_training_equals_eval_equals_packed() -> None:
    made, x = layer()
    model = nn.Sequential(made, nn.BatchNorm2d(8))
    with torch.no_grad():
        trained = made(x)
        assert torch.equal(made.eval()(x), trained)
    assert verify(pack(model.eval(), x), model, x).exact


def test_the_first_alone_and_then_all() -> None:
    made, x = layer()
    made.only_first = True
    made(x).sum().backward()
    assert made.experts[0].weight.grad is not None
    assert made.select.weight.grad is None
    assert not made.experts[1].weight.grad.any()  # type: ignore[union-attr]
    y = made(x)
    made.expand()
    assert torch.equal(made(x), y)
    assert not made.only_first


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="ExpertConv2d: needs at least 2 experts; got 1"):
        ExpertConv2d(4, 8, 3, experts=1)
    with pytest.raises(ValueError, match="ExpertConv2d: out_channels must be at least 8; got 7"):
        ExpertConv2d(4, 7, 3)
