# SPDX-License-Identifier: Apache-2.0
"""Float networks of depthwise convolutions to compare with: MobileNetV1, V2 and V3-Large, with the published widths.

V1 (Howard et al. 2017, arXiv 1704.04861) has the widths of ReActNet-A, whose 3x3 convolutions are dense: 0.57 G
products at 224 x 224 instead of the 4.8 G of ReActNet-A's float twin. V2 (Sandler et al. 2018, arXiv 1801.04381) has
0.30 G, V3 (Howard et al. 2019, arXiv 1905.02244) 0.22 G.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from bittern.models.reactnet_a import DOUBLED_WITHOUT_HALVING, WIDTHS

V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride of the first): table 2 of the paper."""


class V3Block(NamedTuple):
    """A row of table 1 of MobileNetV3's paper."""

    kernel: int
    expanded: int
    outputs: int
    squeezes: bool
    hard_swish: bool
    stride: int


V3_LARGE = (
    V3Block(3, 16, 16, False, False, 1),
    V3Block(3, 64, 24, False, False, 2),
    V3Block(3, 72, 24, False, False, 1),
    V3Block(5, 72, 40, True, False, 2),
    V3Block(5, 120, 40, True, False, 1),
    V3Block(5, 120, 40, True, False, 1),
    V3Block(3, 240, 80, False, True, 2),
    V3Block(3, 200, 80, False, True, 1),
    V3Block(3, 184, 80, False, True, 1),
    V3Block(3, 184, 80, False, True, 1),
    V3Block(3, 480, 112, True, True, 1),
    V3Block(3, 672, 112, True, True, 1),
    V3Block(5, 672, 160, True, True, 2),
    V3Block(5, 960, 160, True, True, 1),
    V3Block(5, 960, 160, True, True, 1),
)


def mobilenet_v1(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """x [batch, in_channels, height, width] -> logits [batch, num_classes]."""
    layers = [_convolution(in_channels, WIDTHS[0], 3, nn.ReLU, stride=2)]
    for before, after in pairwise(WIDTHS):
        stride = 2 if after not in (before, DOUBLED_WITHOUT_HALVING) else 1
        layers.append(_convolution(before, before, 3, nn.ReLU, stride=stride, groups=before))
        layers.append(_convolution(before, after, 1, nn.ReLU))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], num_classes))


def mobilenet_v2(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """x [batch, in_channels, height, width] -> logits [batch, num_classes]."""

    def blocks() -> Iterator[nn.Module]:
        inputs = 32
        for expansion, outputs, count, stride in V2_STAGES:
            for i in range(count):
                yield _inverted(inputs, expansion * inputs, outputs, 3, nn.ReLU6, stride=1 if i else stride)
                inputs = outputs
        yield _convolution(inputs, 1280, 1, nn.ReLU6)

    stem = _convolution(in_channels, 32, 3, nn.ReLU6, stride=2)
    return nn.Sequential(stem, *blocks(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, num_classes))


def mobilenet_v3_large(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """x [batch, in_channels, height, width] -> logits [batch, num_classes]."""
    blocks, inputs = [], 16
    for row in V3_LARGE:
        activation = nn.Hardswish if row.hard_swish else nn.ReLU
        squeezed = SqueezeExcite(row.expanded) if row.squeezes else None
        blocks.append(_inverted(inputs, row.expanded, row.outputs, row.kernel, activation, squeezed, stride=row.stride))
        inputs = row.outputs
    return nn.Sequential(
        _convolution(in_channels, 16, 3, nn.Hardswish, stride=2),
        *blocks,
        _convolution(inputs, 960, 1, nn.Hardswish),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(960, 1280),
        nn.Hardswish(),
        nn.Linear(1280, num_classes),
    )


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class SqueezeExcite(nn.Module):
    """x times a gate for each channel, from the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # a quarter, to the nearest multiple of 8 that loses at most a tenth
        least = channels / 4
        squeezed = max(8, int(least + 4) // 8 * 8)
        squeezed += 8 * (squeezed < 0.9 * least)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(x)
        return out


def _inverted(
    inputs: int,
    expanded: int,
    outputs: int,
    kernel: int,
    activation: type[nn.Module],
    squeezed: nn.Module | None = None,
    *,
    stride: int,
) -> nn.Module:
    """Expand, filter each channel, project; around it a shortcut where the shape stays."""
    body = nn.Sequential(
        *([] if expanded == inputs else [_convolution(inputs, expanded, 1, activation)]),
        _convolution(expanded, expanded, kernel, activation, stride=stride, groups=expanded),
        *([] if squeezed is None else [squeezed]),
        _convolution(expanded, outputs, 1, nn.Identity),
    )
    return Residual(body) if stride == 1 and inputs == outputs else body


def _convolution(
    inputs: int, outputs: int, kernel: int, activation: type[nn.Module], *, stride: int = 1, groups: int = 1
) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), activation())
