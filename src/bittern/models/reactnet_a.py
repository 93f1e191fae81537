# SPDX-License-Identifier: Apache-2.0
"""ReActNet-A and ReAct-ResNet-18 (Liu et al. 2020, arXiv 2003.03488).

RPReLU is part of the networks; RSign is part of the method `bittern.binary.ReActNet`, so that other methods can be
compared on the same networks. The float twins (method=None) are the same graph with float convolutions: RPReLU keeps
them from being linear.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import check_arguments, conv, halve, maps_behind, materialize
from bittern.models.bireal_net import BiRealNet
from bittern.nn.activation import RPReLU
from bittern.quantizer import Method

WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Channels after the stem and after each block."""
DOUBLED_WITHOUT_HALVING = 64
"""The block that widens to this many channels is the only widening one that keeps its size."""


class ReActBlock(nn.Module):
    """A 3x3 and a 1x1 convolution with a shortcut each: [batch, in, h, w] -> [batch, out, h / stride, w / stride].

    u = RPReLU(BN(conv3x3(x)) + x'), with x' = x or its mean over 2x2; y = RPReLU(BN(conv1x1(u)) + u'), with u' = u,
    or [u, u] where out = 2 * in. The paper writes the latter as two convolutions of the same signs with a norm each,
    whose results stand side by side: that is one convolution with twice the outputs.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, method: Method | None) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, in_channels, 3, stride, method)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.shortcut = halve() if stride == 2 else None
        self.act1 = RPReLU(in_channels)
        self.conv2 = conv(in_channels, out_channels, 1, 1, method)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.doubles = out_channels != in_channels
        self.act2 = RPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        u = self.act1(self.bn1(self.conv1(x)) + skip)
        skip = torch.cat((u, u), 1) if self.doubles else u
        y: Tensor = self.act2(self.bn2(self.conv2(u)) + skip)
        return y


class ReActNetA(ImageClassifier):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes]; the skeleton is MobileNetV1's."""

    def __init__(self, method: Method | None, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_channels, WIDTHS[0], 3, 2, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]))
        layers: list[nn.Module] = []
        ends: list[int] = []
        for before, after in pairwise(WIDTHS):
            stride = 2 if after not in (before, DOUBLED_WITHOUT_HALVING) else 1
            ends += [len(layers)] if stride == 2 else []
            layers.append(ReActBlock(before, after, stride, method))
        self.blocks = nn.Sequential(*layers)
        self.stage_ends = (*ends, len(layers))
        self.end_with(WIDTHS[-1], num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves the last block of each size: 1/2, 1/4, 1/8, 1/16 and 1/32 of the image."""
        return maps_behind(self.blocks, self.stage_ends, self.stem(x))


def reactnet_a(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> ReActNetA:
    """ReActNet-A for x [batch, in_channels, 224, 224]: 13 blocks of a 3x3 and a 1x1 convolution.

    method: a Quantizer class (the paper's: bittern.binary.ReActNet) or a partial of one; None: the float twin.
    input_size: height and width, which methods whose parameters depend on the output size (XNOR-Net++) then need.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    check_arguments("reactnet_a", method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    model = ReActNetA(method, num_classes, in_channels)
    materialize(model, in_channels, input_size)
    return model


def react_resnet18(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> BiRealNet:
    """ReAct-ResNet-18: Bi-Real Net 18 with an RPReLU after each addition. Arguments and errors: as `reactnet_a`."""
    check_arguments("react_resnet18", method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    model = BiRealNet(method, num_classes, in_channels, blocks=(4, 4, 4, 4), activation=RPReLU)
    materialize(model, in_channels, input_size)
    return model
