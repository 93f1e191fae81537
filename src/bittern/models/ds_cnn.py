# SPDX-License-Identifier: Apache-2.0
"""Depthwise separable convolutions for spectrograms, after DS-CNN (Zhang et al. 2017, arXiv 1711.07128)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import check_arguments, conv, halve, maps_behind, materialize_on, start_weights
from bittern.quantizer import Method
from bittern.start import HeNormal


class SeparableBlock(nn.Module):
    """x + hardtanh(norm(pointwise(norm(depthwise(x))))): the depthwise 3x3 is float, the pointwise low-bit."""

    def __init__(self, channels: int, method: Method | None) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pointwise = conv(channels, channels, 1, 1, method)
        self.bn2 = nn.BatchNorm2d(channels)
        self.act = nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn2(self.pointwise(self.bn1(self.depthwise(x)))))
        return x + y


class DSCNN(ImageClassifier):
    """x [batch, in_channels, bands, frames] -> logits [batch, num_classes].

    Float: the first 3x3 convolution of stride 2, all depthwise ones, the last layer. The size is halved after half of
    the blocks. Different from DS-CNN: a shortcut around each block, Hardtanh for ReLU, behind which a sign sees
    nothing, a 3x3 first layer.
    """

    def __init__(self, method: Method | None, num_classes: int, in_channels: int, *, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width))
        layers: list[nn.Module] = [SeparableBlock(width, method) for _ in range(blocks)]
        layers.insert(blocks // 2, halve())
        self.blocks = nn.Sequential(*layers)
        self.size_ends = (blocks // 2, blocks + 1)
        self.norm = nn.BatchNorm2d(width)
        self.end_with(width, num_classes)
        start_weights(self, HeNormal("in"))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each of two sizes; the second behind the norm."""
        fine, last = maps_behind(self.blocks, self.size_ends, self.stem(x))
        return fine, self.norm(last)


def ds_cnn(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    input_size: tuple[int, int] = (40, 63),
    width: int = 64,
    blocks: int = 4,
) -> DSCNN:
    """DSCNN for spectrograms [batch, in_channels, bands, frames].

    method: a Quantizer class or a partial of one; None: the same network with float layers.
    input_size: bands and frames, which methods whose parameters depend on the output size (XNOR-Net++) then need.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    bands, frames = input_size
    check_arguments(
        "ds_cnn",
        method,
        num_classes=num_classes,
        in_channels=in_channels,
        bands=bands,
        frames=frames,
        width=width,
        blocks=blocks,
    )
    model = DSCNN(method, num_classes, in_channels, width=width, blocks=blocks)
    materialize_on(model, torch.zeros(1, in_channels, bands, frames))
    return model
