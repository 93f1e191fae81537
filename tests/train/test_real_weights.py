# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from bittern.binary import BNN
from bittern.estimators import binarize
from bittern.nn import BinaryConv2d
from bittern.quantizer import InputCode, LayerShape, Quantized, Quantizer, SignCode, set_progress
from bittern.train.real_weights import RealWeights, real_weights, use_real_weights


class Shifted(Quantizer):
    """A method with a parameter, a buffer, a submodule, a schedule and a scale on the output."""

    clip_latent = 1.0

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.threshold = nn.Parameter(torch.zeros(shape.in_channels))
        self.register_buffer("progress", torch.zeros(()))
        self.register_buffer("scratch", torch.zeros(()), persistent=False)
        self.act = nn.PReLU()

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w, None), w.abs().mean((1, 2, 3), keepdim=True))

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x - self.shape.input_view(self.threshold), None) if self.training else x * 0)

    def input_code(self) -> InputCode:
        return SignCode(self.threshold)

    def output(self, y: Tensor) -> Tensor:
        out: Tensor = 3 * self.act(y)
        return out

    def output_factors(self) -> tuple[Tensor, ...]:
        return (torch.tensor(3.0),)

    def set_progress(self, t: float) -> None:
        assert isinstance(self.progress, Tensor)
        self.progress.fill_(t)


def build(method: object = Shifted) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), BinaryConv2d(4, 5, 3, method=method))  # type: ignore[arg-type]


def test_weights_stay_real_and_the_rest_is_the_method() -> None:
    model = use_real_weights(build())
    layer = model[1]
    x = torch.randn(2, 4, 5, 5)
    signs = torch.where(x >= 0, 1.0, -1.0)
    expected = 3 * layer.method.act(nn.functional.conv2d(signs, layer.weight))
    torch.testing.assert_close(layer(x), expected)
    w = layer.method.weight(layer.weight)
    assert w.values is layer.weight
    assert w.scale is None
    assert (layer.method.weight_bits, layer.method.input_bits, layer.method.clip_latent) == (32, 1, None)
    assert isinstance(layer.method.input_code(), SignCode)
    assert layer.method.output_factors() == (torch.tensor(3.0),)


def test_names_are_those_of_the_method() -> None:
    plain, real, built = build(), use_real_weights(build()), build(real_weights(Shifted))
    assert list(plain.state_dict()) == list(real.state_dict()) == list(built.state_dict())
    assert [n for n, _ in plain.named_parameters()] == [n for n, _ in real.named_parameters()]
    assert "1.method.threshold" in real.state_dict()
    assert "1.method.act.weight" in real.state_dict()
    assert "1.method.scratch" not in real.state_dict()


def test_state_loads_strictly_in_both_directions() -> None:
    plain, real = build(), use_real_weights(build())
    with torch.no_grad():
        real[1].method.threshold.fill_(0.25)
    plain.load_state_dict(real.state_dict(), strict=True)
    assert torch.equal(plain[1].method.threshold, torch.full((4,), 0.25))
    real.load_state_dict(plain.state_dict(), strict=True)


def test_mode_dtype_schedule_and_copies_reach_the_method() -> None:
    real = copy.deepcopy(use_real_weights(build()))
    x = torch.randn(2, 4, 5, 5)
    real.eval()
    assert torch.equal(real[1].method.input(x).values, x * 0)
    real.train()
    assert not torch.equal(real[1].method.input(x).values, x * 0)
    set_progress(real, 0.5)
    assert real.state_dict()["1.method.progress"] == 0.5
    real.double()
    assert real[1](x.double()).dtype == torch.float64
    with torch.no_grad():
        real[1].method.threshold.fill_(1e9)
    assert torch.equal(real[1].method.input(x.double()).values, -torch.ones_like(x.double()))


def test_a_copy_does_not_share_parameters_with_the_original() -> None:
    first = use_real_weights(build())
    second = copy.deepcopy(first)
    with torch.no_grad():
        second[1].method.threshold.fill_(1e9)
    x = torch.randn(2, 4, 5, 5)
    assert not torch.equal(first[1].method.input(x).values, second[1].method.input(x).values)


def test_gradients_reach_weights_unmasked_and_parameters_of_the_method() -> None:
    real = use_real_weights(build())
    with torch.no_grad():
        real[1].weight.fill_(7.0)
    real(torch.randn(2, 1, 7, 7)).sum().backward()
    assert real[1].weight.grad.abs().min() > 0
    assert real[1].method.act.weight.grad is not None


def test_wrapping_twice_or_nothing() -> None:
    real = use_real_weights(build(BNN))
    assert isinstance(real[1].method, RealWeights)
    for model in (real, nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="no low-bit layer"):
            use_real_weights(model)
