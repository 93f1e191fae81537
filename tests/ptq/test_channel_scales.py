# SPDX-License-Identifier: Apache-2.0
"""Channels brought to one range: the float function stays, and small channels keep their precision."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bittern
from bittern import ptq
from bittern.deploy.packed import from_bytes
from bittern.ptq.calibrate import walk
from bittern.ptq.channel_scales import with_channel_scales


class Uneven(nn.Module):
    """A layer whose channels are 1, 10, 100 and 1,000 times as large as each other, and one that undoes it."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        factors = 10.0 ** torch.arange(4)
        self.first, self.between, self.last = nn.Conv2d(3, 4, 1), between, nn.Conv2d(4, 5, 3, padding=1)
        with torch.no_grad():
            self.first.weight.mul_(factors.view(-1, 1, 1, 1))
            self.first.bias.mul_(factors)
            self.last.weight.div_(factors.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.between(self.first(x)))
        return y


class Shuffled(nn.Module):
    """Parts of different sizes joined, their channels shuffled, padded, pooled, added and gated; ReLU6 between."""

    def __init__(self) -> None:
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.deep, self.gate, self.last = nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)
        with torch.no_grad():
            self.small.weight.mul_(0.01)
            self.small.bias.mul_(0.01)
            self.large.weight.mul_(5.0)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([F.relu6(self.small(x)), F.relu6(self.large(x))], 1)
        x = x.view(-1, 2, 4, *x.shape[2:]).transpose(1, 2).reshape(x.shape)
        x = F.max_pool2d(F.pad(x, (1, 0, 1, 0)), 2)
        x = x + F.pad(self.deep(x), (1, 1, 1, 1))
        y: Tensor = self.last(x * torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1))))
        return y


def images(count: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def network(model: nn.Module, strength: float | None, **more: object) -> bittern.ptq.QuantizedNetwork:
    return bittern.quantize(model.eval(), images(), channel_scales=strength, **more)


def decibels(model: nn.Module, strength: float | None) -> float:
    with torch.no_grad():
        return ptq.signal_to_noise_db(model(images(8, 1)), network(model, strength)(images(8, 1)))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("between", [nn.ReLU(), nn.Identity(), nn.LeakyReLU(0.1)])
def test_small_channels_keep_their_precision(between: nn.Module) -> None:
    model = Uneven(between)
    assert decibels(model, 1.0) > decibels(model, None) + 6.0


def test_divisors_are_the_ranges() -> None:
    model = Uneven(nn.Identity())
    plain, scaled = network(model, None), network(model, 1.0)
    y = model.first(images())
    ranges = y.detach().abs().amax((0, 2, 3))
    first = next(layer for layer in scaled.own_layers() if layer.name == "first")
    wanted = model.first.weight.detach() / (ranges / ranges.max()).view(-1, 1, 1, 1)
    torch.testing.assert_close(first.weight.detach(), wanted)
    assert not torch.equal(first.weight, next(x for x in plain.own_layers() if x.name == "first").weight)
    half = next(layer for layer in network(model, 0.5).own_layers() if layer.name == "first")
    torch.testing.assert_close(half.bias.detach(), model.first.bias.detach() / (ranges / ranges.max()).sqrt())


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_what_the_network_computes_stays(strength: float) -> None:
    model = Shuffled().eval()
    plain = network(model, None)
    scaled = with_channel_scales(plain.facts, plain.units, [[images()]], strength)
    assert any(not torch.equal(scaled.tensors[name], tensor) for name, tensor in plain.facts.tensors.items())
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        walk(scaled, [images()], found.__setitem__)
        torch.testing.assert_close(found[scaled.program.output], model(images()), rtol=1e-4, atol=1e-5)


def test_joined_parts_keep_their_precision() -> None:
    model = Shuffled()
    assert decibels(model, 0.5) > decibels(model, None)


def test_training_and_the_file_give_the_same() -> None:
    scaled = network(Shuffled(), 0.5, bias_correction=True)
    x = images(4, 2)
    wanted = scaled(x)
    assert torch.equal(from_bytes(scaled.pack().to_bytes())(x), wanted)
    assert torch.equal(scaled.train()(x).detach(), wanted)


def test_a_weight_of_two_layers_stays() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(F.relu(self.conv(x)))
            return y

    model = Twice()
    assert decibels(model, 1.0) > 30.0


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.5, float("nan")])
def test_strengths_out_of_range_are_refused(strength: float) -> None:
    with pytest.raises(ValueError, match="channel_scales must lie above 0"):
        network(Uneven(nn.ReLU()), strength)
