# SPDX-License-Identifier: Apache-2.0
"""A&B BNN's ResNet-18, which has no norms (Ma et al. 2024, arXiv 2403.03739; after Brock et al. 2021, 2101.08692).

A block is one low-bit 3x3 convolution with one shortcut, y = RPReLU(conv(beta x) / 4 + shortcut(x)), whose RPReLU has
powers of two for slopes. beta, a constant, divides by the deviation that x would have: its square is 1 behind a stage's
first block and grows by 1/16 with each further one. Where the size is halved, the shortcut is AvgPool 2x2 and a 1x1
convolution. Weights that stay real are standardized too: `StandardConv2d`.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import THUMBNAIL, check_arguments, halve, maps_behind, materialize
from bittern.nn.activation import PowerOfTwoRPReLU
from bittern.nn.conv import BinaryConv2d
from bittern.quantizer import Method

WIDTHS = (64, 128, 256, 512)
DEPTHS = (4, 4, 4, 4)
SHARE = 0.25
"""What is added to a shortcut counts this much, a power of two."""


class StandardConv2d(nn.Conv2d):
    """A convolution of W_q = gain_o (W - mean(W)) / (std(W) + 1e-5) / sqrt(n), of each filter of n weights; no bias.

    Source: arXiv 2101.08692; Ruichen0424/AB-BNN Network/BNN.py.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        from bittern.binary.ab_bnn import EPSILON  # the networks of other methods load without all of them

        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.gain = nn.Parameter(torch.ones(out_channels))
        self.epsilon = EPSILON

    def forward(self, x: Tensor) -> Tensor:
        spread, mean = torch.std_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        standard = (self.weight - mean) / (spread + self.epsilon) * self.weight[0].numel() ** -0.5
        return F.conv2d(x, self.gain.view(-1, 1, 1, 1) * standard, None, self.stride, self.padding)


class ABBlock(nn.Module):
    """[batch, in, h, w] -> [batch, out, h / stride, w / stride]. variance: that of x, by the module's count."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, variance: float, method: Method | None
    ) -> None:
        super().__init__()
        self.beta = variance**-0.5
        self.conv = _conv(in_channels, out_channels, 3, stride, method)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(halve(), _conv(in_channels, out_channels, 1, 1, _on_reals(method)))
        self.activation = PowerOfTwoRPReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        y: Tensor = self.activation(self.conv(x * self.beta) * SHARE + skip)
        return y


class ABResNet(ImageClassifier):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes]."""

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        input_size: int,
        *,
        widths: tuple[int, ...] = WIDTHS,
        depths: tuple[int, ...] = DEPTHS,
    ) -> None:
        super().__init__()
        small = input_size < THUMBNAIL
        stem: list[nn.Module] = [StandardConv2d(in_channels, widths[0], 3 if small else 7, 1 if small else 2)]
        self.stem = nn.Sequential(*stem, *([] if small else [nn.MaxPool2d(3, 2, 1)]))
        blocks: list[nn.Module] = []
        ends: list[int] = []
        channels, variance = widths[0], 1.0
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for index in range(depth):
                first = index == 0
                blocks.append(ABBlock(channels, width, 2 if stage and first else 1, variance, method))
                variance = 1.0 if first else variance + SHARE**2
                channels = width
            ends.append(len(blocks))
        self.blocks, self.stage_ends = nn.Sequential(*blocks), tuple(ends)
        self.end_with(channels, num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each stage."""
        return maps_behind(self.blocks, self.stage_ends, self.stem(x))


def ab_resnet18(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> ABResNet:
    """ReAct-ResNet-18 without norms, for x [batch, in_channels, size, size]; below 50 pixels its stem is one 3x3.

    method: a Quantizer class (the paper's: bittern.binary.ABBNN) or a partial of one; None: the float twin, the same
    graph with `StandardConv2d`. With ABBNN the 1x1 convolutions of shortcuts have weights of one bit and real inputs,
    as the authors' have; with other methods they are real. input_size: height and width.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    check_arguments("ab_resnet18", method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    model = ABResNet(method, num_classes, in_channels, input_size)
    materialize(model, in_channels, input_size)
    return model


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int, method: Method | None) -> nn.Module:
    if method is None:
        return StandardConv2d(in_channels, out_channels, kernel, stride)
    return BinaryConv2d(in_channels, out_channels, kernel, stride, kernel // 2, method=method)


def _on_reals(method: Method | None) -> Method | None:
    """The same weights for inputs that stay real, where the method has such; else real weights."""
    from bittern.binary.ab_bnn import ABBNN

    of = method.func if isinstance(method, functools.partial) else method
    return functools.partial(ABBNN, inputs="real") if of is ABBNN else None
