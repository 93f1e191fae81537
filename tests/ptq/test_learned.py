# SPDX-License-Identifier: Apache-2.0
"""`bittern.quantize` with learned rounding: nearer to the float network, and every integer still the right one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bittern
from _ptq import check_integers
from bittern.ptq import AdaRound, QuantizedLayer, Schedule


class Net(nn.Module):
    """A convolution with a norm and a ReLU, a transposed and a depthwise one, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.up, self.depthwise = nn.ConvTranspose2d(8, 6, 2, 2, groups=2), nn.Conv2d(6, 6, 3, groups=6)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.norm(self.first(x)))
        return self.head(F.relu(self.depthwise(self.up(x))).mean((2, 3)))


def test_adaround_of_a_network() -> None:
    torch.manual_seed(0)
    model = Net().eval()
    images = F.interpolate(torch.randn(80, 2, 3, 3), (7, 7), mode="bilinear")  # neighbours are alike
    told: list[tuple[str, float, float]] = []
    learned = AdaRound(
        schedule=Schedule(iterations=60, rate=0.1),
        progress=lambda name, before, after: told.append((name, before, after)),
    )
    nearest = bittern.quantize(model, images[:64], weights=3)
    rounded = bittern.quantize(model, images[:64], weights=3, rounding=learned)
    with torch.no_grad():
        wanted = model(images[64:])
        errors = [float((network(images[64:]) - wanted).square().mean()) for network in (nearest, rounded)]
    assert errors[1] < 0.7 * errors[0]
    assert [name for name, _, _ in told[:4]] == ["first", "up", "depthwise", "head"]
    assert all(after < before for _, before, after in told)
    check_integers(rounded, images[64:])
    assert torch.equal(rounded.pack()(images[64:]), rounded(images[64:]))
    for plain, own in zip(nearest.layers, rounded.layers, strict=True):
        assert isinstance(plain, QuantizedLayer)
        assert isinstance(own, QuantizedLayer)
        assert int((own.integers().integers.int() - plain.integers().integers.int()).abs().max()) == 1
        assert torch.equal(own.integers().scales, plain.integers().scales)
