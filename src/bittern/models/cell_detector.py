# SPDX-License-Identifier: Apache-2.0
"""A small detector whose cells each say what lies in them, in the manner of FastestDet (github.com/dog-qiuqiu)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bittern.models._layers import (
    PadChannels,
    check_arguments,
    conv,
    halve,
    maps_behind,
    materialize_on,
    start_weights,
)
from bittern.quantizer import Method
from bittern.start import HeNormal

STRIDE = 8
"""Pixels of a cell, in both directions."""
PRIOR = 0.05
"""Chance that a cell holds something, at the start."""


class DetectorBlock(nn.Module):
    """x + hardtanh(norm(conv(norm(x)))), a low-bit 3x3 convolution with a shortcut of its own."""

    def __init__(self, channels: int, method: Method | None) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv = conv(channels, channels, 3, 1, method)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act = nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn2(self.conv(self.bn1(x))))
        return x + y


class CellDetector(nn.Module):
    """x [batch, in_channels, height, width] -> [batch, 1 + 4 + num_classes, height / 8, width / 8].

    What the numbers mean says `bittern.train.Detection`. Float: the first 3x3 convolution of stride 2 and the last 1x1
    one. Two blocks see pixels of 4 x 4, four, of twice as many channels, cells of 8 x 8.
    """

    def __init__(self, method: Method | None, num_classes: int, in_channels: int, *, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), halve())
        fine = [DetectorBlock(width, method) for _ in range(2)]
        coarse = [DetectorBlock(2 * width, method) for _ in range(4)]
        self.blocks = nn.Sequential(*fine, halve(), PadChannels(width // 2), *coarse)
        self.size_ends = (len(fine), len(self.blocks))
        self.norm = nn.BatchNorm2d(2 * width)
        self.head = nn.Conv2d(2 * width, 5 + num_classes, 1)
        start_weights(self, HeNormal("in"))
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        nn.init.constant_(self.head.bias[0], math.log(PRIOR / (1 - PRIOR)))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of 1/4 and 1/8 of the image; the second behind the norm."""
        if x.shape[2] % STRIDE or x.shape[3] % STRIDE:
            raise ValueError(f"CellDetector: height and width must be multiples of {STRIDE}; got {list(x.shape)}")
        fine, last = maps_behind(self.blocks, self.size_ends, self.stem(x))
        return fine, self.norm(last)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.feature_maps(x)[-1])
        return y


def cell_detector(
    method: Method | None = None,
    num_classes: int = 3,
    in_channels: int = 3,
    *,
    input_size: tuple[int, int] = (120, 160),
    width: int = 32,
) -> CellDetector:
    """CellDetector for images [batch, in_channels, height, width].

    method: a Quantizer class or a partial of one; None: the same network with float layers.
    input_size: height and width, which methods whose parameters depend on the output size (XNOR-Net++) then need.

    Raises: TypeError when `method` is no class; ValueError for a size below 1, an odd width.
    """
    height, across = input_size
    check_arguments(
        "cell_detector",
        method,
        num_classes=num_classes,
        in_channels=in_channels,
        height=height,
        width=width,
        input_width=across,
    )
    if width % 2:
        raise ValueError(f"cell_detector: width must be even; got {width}")
    model = CellDetector(method, num_classes, in_channels, width=width)
    materialize_on(model, torch.zeros(1, in_channels, height, across))
    return model
