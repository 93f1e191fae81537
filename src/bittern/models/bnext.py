# SPDX-License-Identifier: Apache-2.0
"""BNext (Guo et al. 2022, arXiv 2211.12933): MobileNet's skeleton whose low-bit convolutions are gated by channel.

A processor makes of x and a low-bit convolution z = PReLU(BN(conv(x)))
    q = gate(s * x' + (1 - s) * z) * z,   x' = x, or its mean over 2x2 where the size is halved,
with a learned share s of each channel, 1/2 at the start and kept in [0, 1], and `gate` squeeze and excitation with a
sigmoid. A block is a 3x3 processor, then a 1x1 one, or two side by side where it doubles the channels, each with a
shortcut: y = BN(q) + x'. In every second block the 3x3 one is an element-wise attention instead: with r the PReLU of
x', y = BN(q * r) + r. Float: the first 3x3 convolution, gates, and the linear layer behind a PReLU and the mean.

The convolution's thresholds and clips are part of the method `bittern.binary.BNext`, so that others can be compared on
the same network. The float twin (method=None) is the same graph with float convolutions.

Differences: the released code clips s in each forward pass of the training; here its value is clipped where it is used,
and its gradient passes. Odd sizes are halved upward, as a 3x3 convolution of stride 2 does.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import THUMBNAIL, ChannelGate, check_arguments, conv, halve, maps_behind, materialize
from bittern.quantizer import Method

FIRST_SHARE = 0.5
"""s at the start."""
STEM_MULTIPLES = (1, 2)
"""Channels of the first layer and of the first block, over the network's width."""
STAGE_MULTIPLES = (4, 8, 16, 32)
"""Channels of the stages behind them, each of which halves the size."""


class Processor(nn.Module):
    """q of the module's docstring: [batch, in, h, w] -> [batch, out, h / stride, w / stride], out = in."""

    def __init__(self, channels: int, kernel: int, stride: int, method: Method | None) -> None:
        super().__init__()
        self.conv = conv(channels, channels, kernel, stride, method)
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.PReLU(channels)
        self.share = nn.Parameter(torch.full((channels,), FIRST_SHARE))
        """s [channels]."""
        self.gate = ChannelGate(channels, channels, nn.Sigmoid())

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        z = self.act(self.bn(self.conv(x)))
        s = (self.share + (self.share.clamp(0, 1) - self.share).detach()).view(1, -1, 1, 1)
        y: Tensor = self.gate(s * shortcut + (1 - s) * z) * z
        return y


class FeedForward(nn.Module):
    """y = BN(q) + x': a processor with a shortcut."""

    def __init__(self, channels: int, kernel: int, stride: int, method: Method | None) -> None:
        super().__init__()
        self.down = halve() if stride == 2 else None
        self.processor = Processor(channels, kernel, stride, method)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.down is None else self.down(x)
        y: Tensor = self.bn(self.processor(x, shortcut)) + shortcut
        return y


class ElementAttention(nn.Module):
    """y = BN(q * r) + r, r = mean over 2x2 of PReLU(x) where the size is halved, else PReLU(x)."""

    def __init__(self, channels: int, kernel: int, stride: int, method: Method | None) -> None:
        super().__init__()
        self.down = halve() if stride == 2 else None
        self.act = nn.PReLU(channels)
        self.processor = Processor(channels, kernel, stride, method)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        r, shortcut = self.act(x), x
        if self.down is not None:
            r, shortcut = self.down(r), self.down(x)
        y: Tensor = self.bn(self.processor(x, shortcut) * r) + r
        return y


class BNextBlock(nn.Module):
    """[batch, in, h, w] -> [batch, out, h / stride, w / stride], out = in or 2 * in."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, method: Method | None, *, attention: bool
    ) -> None:
        super().__init__()
        first = ElementAttention if attention else FeedForward
        self.first = first(in_channels, 3, stride, method)
        self.second = FeedForward(in_channels, 1, 1, method)
        self.third = None if out_channels == in_channels else FeedForward(in_channels, 1, 1, method)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y: Tensor = self.second(x)
        return y if self.third is None else torch.cat((y, self.third(x)), 1)


class BNext(ImageClassifier):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes].

    width: channels of the first layer; blocks: number of each stage that halves the size; stride: of the first layer.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        *,
        width: int,
        blocks: tuple[int, ...],
        stride: int,
    ) -> None:
        super().__init__()
        stages = ((m, n) for m, n in zip(STAGE_MULTIPLES, blocks, strict=False) for _ in range(n))
        widths = [width * multiple for multiple in (*STEM_MULTIPLES, *(multiple for multiple, _ in stages))]
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width))
        layers: list[nn.Module] = []
        ends: list[int] = []
        for place, (before, after) in enumerate(pairwise(widths), 1):
            halves = place > 1 and after != before
            ends += [len(layers)] if halves else []
            layers.append(BNextBlock(before, after, 2 if halves else 1, method, attention=place % 2 == 0))
        self.blocks = nn.Sequential(*layers)
        self.stage_ends = (*ends, len(layers))
        self.act = nn.PReLU(widths[-1])
        self.end_with(widths[-1], num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves the last block of each size; the last behind the PReLU."""
        return maps_behind(self.blocks, self.stage_ends, self.stem(x), self.act)


def bnext_tiny(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> BNext:
    """BNext-T: 32 channels in the first layer, stages of 2, 2, 6, 2 blocks, for x [batch, in_channels, 224, 224].

    method: a Quantizer class (the paper's: bittern.binary.BNext) or a partial of one; None: the float twin.
    input_size: height and width; below 50 the first layer keeps them.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    return _build("bnext_tiny", method, num_classes, in_channels, input_size, 32, (2, 2, 6, 2))


def bnext_small(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> BNext:
    """BNext-S: 48 channels, stages of 2, 2, 6, 2 blocks. Arguments and errors: as `bnext_tiny`."""
    return _build("bnext_small", method, num_classes, in_channels, input_size, 48, (2, 2, 6, 2))


def bnext_middle(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> BNext:
    """BNext-M: 48 channels, stages of 4, 4, 8, 4 blocks. Arguments and errors: as `bnext_tiny`."""
    return _build("bnext_middle", method, num_classes, in_channels, input_size, 48, (4, 4, 8, 4))


def bnext_large(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> BNext:
    """BNext-L: 64 channels, stages of 4, 4, 16, 4 blocks. Arguments and errors: as `bnext_tiny`.

    The released code calls this size "super"; its "large" has 48 channels, which the published counts are not of.
    """
    return _build("bnext_large", method, num_classes, in_channels, input_size, 64, (4, 4, 16, 4))


def _build(
    owner: str,
    method: Method | None,
    num_classes: int,
    in_channels: int,
    input_size: int,
    width: int,
    blocks: tuple[int, ...],
) -> BNext:
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    stride = 1 if input_size < THUMBNAIL else 2
    model = BNext(method, num_classes, in_channels, width=width, blocks=blocks, stride=stride)
    materialize(model, in_channels, input_size)
    return model
