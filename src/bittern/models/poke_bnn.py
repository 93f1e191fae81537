# SPDX-License-Identifier: Apache-2.0
"""PokeBNN (Zhang et al. 2021, arXiv 2112.00133): ResNet-50's bottlenecks of low-bit convolutions with shortcuts each.

A PokeConv makes of x, and in a bottleneck's last one of the bottleneck's own input r,
    y = BN(conv(x)) + fit(x) [+ fit(r)],   z = BN(DPReLU(y) * gate(x)),
where `gate` is squeeze and excitation with a hard sigmoid. `fit` gives a shortcut the shape of y without a parameter:
more channels than y are averaged by neighbours; fewer are followed by zeros (x) or repeated (r); a larger image is
averaged over 3x3 at stride 2. Float: the first layers (4x4 at stride 4 to 32 channels, then 3x3 in 32 groups, each with
BN and DPReLU), gates, and the linear layer behind the mean. The norm behind a bottleneck's last convolution starts at
0.

Differences from the released code: its first layers and the last have 8 bits, its gates 4; here they are float.
Convolutions and means of stride 2 pad both sides alike, as torch does, where TensorFlow pads an even size on its far
side only. Images of less than 50 pixels, which the authors have not, have a 3x3 of stride 1 first. The float twin
(method=None) is the same graph with float convolutions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import THUMBNAIL, ChannelGate, check_arguments, conv, maps_behind, materialize
from bittern.nn.activation import DPReLU
from bittern.quantizer import Method

STEM_GROUPS = 32
"""Channels of the first convolution, and groups of the second."""
STEM_WIDTH = 64
"""Channels of the second."""
WIDTHS = (64, 128, 256, 512)
"""Of the stages' bottlenecks, whose last convolution has four times as many."""
EXPANSION = 4
BLOCKS = (3, 4, 6, 3)
"""Bottlenecks of each stage; the first of every stage but the first halves the size."""


class Fit(nn.Module):
    """A shortcut [batch, in, h, w] in the shape of what it is added to, [batch, out, h / stride, w / stride].

    repeat: fewer channels are repeated; otherwise zeros follow them.
    Raises: ValueError for fewer channels that are to be repeated, and do not fit whole times.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, repeat: bool) -> None:
        super().__init__()
        if repeat and in_channels < out_channels and out_channels % in_channels:
            raise ValueError(
                f"Fit: channels that are repeated must divide what they are added to; got {in_channels} for "
                f"{out_channels}"
            )
        self.channels = out_channels
        self.averaged = in_channels // out_channels if in_channels > out_channels else 0
        self.copies = out_channels // in_channels if repeat and in_channels < out_channels else 0
        self.missing = 0 if repeat else max(0, out_channels - in_channels)
        self.down = nn.AvgPool2d(3, 2, 1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        if self.averaged:
            x = torch.unflatten(x[:, : self.channels * self.averaged], 1, (self.channels, self.averaged)).mean(2)
        elif self.copies:
            x = torch.cat((x,) * self.copies, 1)
        elif self.missing:
            x = F.pad(x, (0, 0, 0, 0, 0, self.missing))
        return x if self.down is None else self.down(x)


class PokeConv(nn.Module):
    """z of the module's docstring: x [batch, in, h, w] -> [batch, out, h / stride, w / stride].

    around: brings r to that shape, where r is given, too.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        method: Method | None,
        around: Fit | None = None,
    ) -> None:
        super().__init__()
        self.conv = conv(in_channels, out_channels, kernel, stride, method)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.fit = Fit(in_channels, out_channels, stride, repeat=False)
        self.around = around
        self.act = DPReLU(out_channels)
        self.gate = ChannelGate(in_channels, out_channels, nn.Hardsigmoid())
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, r: Tensor) -> Tensor:
        y = self.bn1(self.conv(x)) + self.fit(x)
        if self.around is not None:
            y = y + self.around(r)
        z: Tensor = self.bn2(self.act(y) * self.gate(x))
        return z


class Bottleneck(nn.Module):
    """[batch, in, h, w] -> [batch, 4 * width, h / stride, w / stride]."""

    def __init__(self, in_channels: int, width: int, stride: int, method: Method | None) -> None:
        super().__init__()
        wide = EXPANSION * width
        self.conv1 = PokeConv(in_channels, width, 1, 1, method)
        self.conv2 = PokeConv(width, width, 3, stride, method)
        self.conv3 = PokeConv(width, wide, 1, 1, method, Fit(in_channels, wide, stride, repeat=True))
        nn.init.zeros_(self.conv3.bn1.weight)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv3(self.conv2(self.conv1(x, x), x), x)
        return y


class PokeBNN(ImageClassifier):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes].

    widths, blocks: channels of the bottlenecks and their number, of each stage. small: whether the first layer keeps
    the size.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        *,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        small: bool,
    ) -> None:
        super().__init__()
        first = (3, 1, 1) if small else (4, 4, 0)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, STEM_GROUPS, *first, bias=False),
            nn.BatchNorm2d(STEM_GROUPS),
            DPReLU(STEM_GROUPS),
            nn.Conv2d(STEM_GROUPS, STEM_WIDTH, 3, 1, 1, groups=STEM_GROUPS, bias=False),
            nn.BatchNorm2d(STEM_WIDTH),
            DPReLU(STEM_WIDTH),
        )
        layers: list[nn.Module] = []
        ends: list[int] = []
        channels = STEM_WIDTH
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for index in range(count):
                layers.append(Bottleneck(channels, width, 2 if stage > 0 and index == 0 else 1, method))
                channels = EXPANSION * width
            ends.append(len(layers))
        self.blocks = nn.Sequential(*layers)
        self.stage_ends = tuple(ends)
        self.end_with(channels, num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each stage."""
        return maps_behind(self.blocks, self.stage_ends, self.stem(x))


def pokebnn_1x(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> PokeBNN:
    """PokeBNN-1.0x: bottlenecks of 64, 128, 256, 512 channels, for x [batch, in_channels, 224, 224].

    method: a Quantizer class or a partial of one (the authors': `partial(BNN, limit=3)`); None: the float twin.
    input_size: height and width; below 50 the first layers keep them.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    return _build("pokebnn_1x", method, num_classes, in_channels, input_size, 1)


def pokebnn_half(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> PokeBNN:
    """PokeBNN-0.5x: half the channels of each bottleneck. Arguments and errors: as `pokebnn_1x`."""
    return _build("pokebnn_half", method, num_classes, in_channels, input_size, 0.5)


def pokebnn_2x(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> PokeBNN:
    """PokeBNN-2.0x: twice the channels of each bottleneck. Arguments and errors: as `pokebnn_1x`."""
    return _build("pokebnn_2x", method, num_classes, in_channels, input_size, 2)


def _build(
    owner: str, method: Method | None, num_classes: int, in_channels: int, input_size: int, multiplier: float
) -> PokeBNN:
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    widths = tuple(int(width * multiplier) for width in WIDTHS)
    small = input_size < THUMBNAIL
    model = PokeBNN(method, num_classes, in_channels, widths=widths, blocks=BLOCKS, small=small)
    materialize(model, in_channels, input_size)
    return model
