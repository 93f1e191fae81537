# SPDX-License-Identifier: Apache-2.0
"""Attention, shuffled channels, resized images and decoders in integers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _ptq import check_integers
from _tolerance import assert_exact
from bittern import load
from bittern.deploy import to_c
from bittern.deploy.kinds.integer.resize import ONE
from bittern.ptq import noise_to_signal, quantize
from bittern.ptq.resize import places


class Attention(nn.Module):
    """Queries, keys and values of one layer, taken apart with the batch behind them, as published networks do it."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.fused = nn.Linear(12, 36), nn.Linear(12, 12), fused

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, channels = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, 2, 6).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q * 6**-0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, tokens, channels))


class Shuffled(nn.Module):
    """Two halves of the channels, taken in turn as ShuffleNetV2's released code does it, one of them convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        batch, channels, height, width = x.shape
        pairs = x.reshape(batch * channels // 2, 2, height * width).permute(1, 0, 2)
        pairs = pairs.reshape(2, -1, channels // 2, height, width)
        return torch.cat([pairs[0], self.second(pairs[1])], 1)


class Decoder(nn.Module):
    """Images made larger in three ways."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.more, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 1), nn.Conv2d(3, 2, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.stem(x))
        y = F.interpolate(self.more(y), scale_factor=2.0, mode="bilinear", align_corners=False)
        y = F.pixel_shuffle(y, 2)
        return self.last(F.interpolate(y, size=(11, 13), mode="bilinear", align_corners=True))


MODELS = {
    "fused": (lambda: Attention(fused=True), (9, 5, 12)),
    "by its parts": (lambda: Attention(fused=False), (9, 5, 12)),
    "shuffled": (Shuffled, (9, 3, 6, 7)),
    "decoder": (Decoder, (9, 3, 8, 6)),
}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_stays_float(name: str, tmp_path: Path) -> None:
    make, shape = MODELS[name]
    torch.manual_seed(0)
    model, x = make(), torch.randn(shape)
    with torch.no_grad():
        wanted = model(x)
    network = quantize(model, x)
    assert not network.report.kept_float
    assert noise_to_signal(wanted, network(x)) < 0.01
    packed = network.pack()
    packed.save(tmp_path / "net.bit")
    assert_exact(load(tmp_path / "net.bit")(x), network(x))
    assert_exact(network.train()(x).detach(), network.eval()(x))
    to_c(packed, tmp_path / "net.c")


@pytest.mark.parametrize("name", ["by its parts", "shuffled"])
def test_every_integer_is_the_nearest_to_its_real_number(name: str) -> None:
    make, shape = MODELS[name]
    torch.manual_seed(1)
    x = torch.randn(shape)
    found = check_integers(quantize(make(), x), x)
    assert sum(found.values()) > 0


def test_attention_with_a_mask_stays_float() -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return F.scaled_dot_product_attention(y, y, y, is_causal=True)

    network = quantize(Causal(), torch.randn(4, 5, 6))
    assert "scaled_dot_product_attention" in str(network.report.kept_float[0].reason)


@pytest.mark.parametrize(("size", "result"), [(4, 8), (5, 7), (7, 3), (1, 4), (6, 1)])
@pytest.mark.parametrize("aligned", [False, True])
def test_places_are_those_of_torch(size: int, result: int, aligned: bool) -> None:
    """Of a ramp, on which bilinear resizing gives the places themselves."""
    ramp = torch.arange(size, dtype=torch.float64).view(1, 1, size, 1)
    wanted = F.interpolate(ramp, (result, 1), mode="bilinear", align_corners=aligned).flatten()
    first, share = places(size, result, aligned, None).double().unbind(1)
    assert float((first + share / ONE - wanted).abs().max()) <= 0.5 / ONE + 1e-9
    assert int(share.max()) < ONE
