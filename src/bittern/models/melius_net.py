# SPDX-License-Identifier: Apache-2.0
"""MeliusNet (Bethge et al. 2020, arXiv 2001.05936): dense layers, each followed by one that improves what it added.

A block appends 64 channels as BinaryDenseNet does, and then adds to those 64 what a second low-bit convolution makes of
all channels; the others pass. What lies between stages, float twins and small images are BinaryDenseNet's. The first
layers are three 3x3 convolutions, two of them grouped. A, B and C have grouped 1x1 convolutions between their stages,
with channels shuffled in front of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern.models._layers import padded_conv
from bittern.models.binary_densenet import GROWTH, PADDING, DenseLayer, DenseStages, Shape, build_dense
from bittern.quantizer import Method


class ImprovementBlock(nn.Module):
    """[batch, c, h, w] -> the same, where conv3x3(BN(x)) is added to the last 64 channels."""

    def __init__(self, channels: int, method: Method | None, dilation: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.clip = nn.Hardtanh() if method is None else None
        self.conv = padded_conv(channels, GROWTH, method, PADDING, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        y = self.conv(y if self.clip is None else self.clip(y))
        return torch.cat((x[:, :-GROWTH], x[:, -GROWTH:] + y), 1)


def grouped_stem(in_channels: int) -> nn.Module:
    """A quarter of the size by three convolutions of 3x3 and a max pool."""
    half = GROWTH // 2
    layers: list[nn.Module] = []
    for before, after, stride, groups in ((in_channels, half, 2, 1), (half, half, 1, 4), (half, GROWTH, 1, 8)):
        layers.append(nn.Conv2d(before, after, 3, stride, 1, groups=groups, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(3, 2, 1))


def blocks(channels: int, method: Method | None, dilation: int) -> list[nn.Module]:
    """What one of a stage's blocks is made of: a layer that appends, and one that improves."""
    return [DenseLayer(channels, method, dilation), ImprovementBlock(channels + GROWTH, method, dilation)]


def _melius(
    owner: str, method: Method | None, num_classes: int, in_channels: int, input_size: int, shape: Shape
) -> DenseStages:
    return build_dense(
        owner, method, num_classes, in_channels, input_size, shape=shape, stem=grouped_stem, units=blocks
    )


def meliusnet22(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """MeliusNet-22: stages of 4, 5, 4, 4 blocks, for x [batch, in_channels, 224, 224].

    Arguments and errors: as `binary_densenet28`.
    """
    shape = Shape((4, 5, 4, 4), (160, 224, 256))
    return _melius("meliusnet22", method, num_classes, in_channels, input_size, shape)


def meliusnet29(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """MeliusNet-29: stages of 4, 6, 8, 6 blocks. Arguments and errors: as `binary_densenet28`."""
    shape = Shape((4, 6, 8, 6), (128, 192, 256))
    return _melius("meliusnet29", method, num_classes, in_channels, input_size, shape)


def meliusnet42(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """MeliusNet-42: stages of 5, 8, 14, 10 blocks. Arguments and errors: as `binary_densenet28`."""
    shape = Shape((5, 8, 14, 10), (160, 256, 416))
    return _melius("meliusnet42", method, num_classes, in_channels, input_size, shape)


def meliusnet59(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """MeliusNet-59: stages of 6, 12, 24, 12 blocks. Arguments and errors: as `binary_densenet28`."""
    shape = Shape((6, 12, 24, 12), (192, 320, 544))
    return _melius("meliusnet59", method, num_classes, in_channels, input_size, shape)


def meliusnet_a(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """MeliusNet-A: stages of 4, 5, 5, 6 blocks, 1x1 in 4 groups. Arguments and errors: as `binary_densenet28`."""
    shape = Shape((4, 5, 5, 6), (160, 256, 288), groups=4)
    return _melius("meliusnet_a", method, num_classes, in_channels, input_size, shape)


def meliusnet_b(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """MeliusNet-B: stages of 4, 6, 8, 6 blocks, 1x1 in 2 groups. Arguments and errors: as `binary_densenet28`."""
    shape = Shape((4, 6, 8, 6), (160, 224, 320), groups=2)
    return _melius("meliusnet_b", method, num_classes, in_channels, input_size, shape)


def meliusnet_c(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """MeliusNet-C: stages of 3, 5, 10, 6 blocks, 1x1 in 4 groups. Arguments and errors: as `binary_densenet28`."""
    shape = Shape((3, 5, 10, 6), (128, 192, 288), groups=4)
    return _melius("meliusnet_c", method, num_classes, in_channels, input_size, shape)
