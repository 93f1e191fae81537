# SPDX-License-Identifier: Apache-2.0
"""MobileNetV1 with the widths of ReActNet-A (Howard et al. 2017, arXiv 1704.04861): a float network to compare with.

A block is a depthwise 3x3 convolution and a dense 1x1, each with norm and ReLU. ReActNet-A makes the 3x3 dense, so this
network has far fewer products than ReActNet-A's float twin: 0.57 G at 224 x 224 instead of 4.8 G.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from bittern.models.reactnet_a import DOUBLED_WITHOUT_HALVING, WIDTHS


def mobilenet_v1(num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """x [batch, in_channels, height, width] -> logits [batch, num_classes]."""
    layers = [_convolution(in_channels, WIDTHS[0], 3, 2)]
    for before, after in pairwise(WIDTHS):
        stride = 2 if after not in (before, DOUBLED_WITHOUT_HALVING) else 1
        layers += [_convolution(before, before, 3, stride, groups=before), _convolution(before, after, 1, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], num_classes))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())
