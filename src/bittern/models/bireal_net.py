# SPDX-License-Identifier: Apache-2.0
"""Bi-Real Net 18 and 34 (Liu et al. 2018, arXiv 1808.00278).

A block is one low-bit 3x3 convolution with one shortcut, y = BN(conv(x)) + shortcut(x); there is no other activation
than the method's own sign. Where the size is halved, the shortcut is AvgPool 2x2, a float 1x1 convolution and a norm.
Float too: the 7x7 stem and the last linear layer.

The float twin (method=None) would be a linear map, so it has a Hardtanh where the sign stands: clip(-1, 1) is the last
of the activations by which the paper pre-trains its networks. sign(Hardtanh(x)) = sign(x), so converting the twin's
3x3 convolutions gives the low-bit network's outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import check_arguments, conv, halve, maps_behind, materialize
from bittern.quantizer import Method

STAGE_WIDTHS = (64, 128, 256, 512)


class BiRealBlock(nn.Module):
    """[batch, in, h, w] -> [batch, out, h / stride, w / stride].

    activation: makes from the number of channels what follows the addition; None: nothing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        method: Method | None,
        activation: Callable[[int], nn.Module] | None,
    ) -> None:
        super().__init__()
        # a twin with an activation of its own is no linear map: it needs none in place of the sign
        self.clip = nn.Hardtanh() if method is None and activation is None else None
        self.conv = conv(in_channels, out_channels, 3, stride, method)
        self.bn = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                halve(), nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.activation = None if activation is None else activation(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        if self.clip is not None:
            x = self.clip(x)
        y: Tensor = self.bn(self.conv(x)) + skip
        return y if self.activation is None else self.activation(y)


class BiRealNet(ImageClassifier):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes].

    blocks: number of one-convolution blocks of each stage.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        *,
        blocks: tuple[int, ...],
        activation: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        width = STAGE_WIDTHS[0]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.MaxPool2d(3, 2, 1)
        )
        layers: list[nn.Module] = []
        channels = width
        for stage, (width, count) in enumerate(zip(STAGE_WIDTHS, blocks, strict=True)):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(BiRealBlock(channels, width, stride, method, activation))
                channels = width
        self.blocks = nn.Sequential(*layers)
        self.stage_ends = tuple(accumulate(blocks))
        self.end_with(channels, num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each stage."""
        return maps_behind(self.blocks, self.stage_ends, self.stem(x))


def bireal_net18(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> BiRealNet:
    """Bi-Real Net 18: stages of 4, 4, 4, 4 blocks, for x [batch, in_channels, 224, 224].

    method: a Quantizer class or a partial of one; None: the float twin that the module's docstring describes.
    input_size: height and width, which methods whose parameters depend on the output size (XNOR-Net++) then need.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    return _build("bireal_net18", method, num_classes, in_channels, input_size, (4, 4, 4, 4))


def bireal_net34(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> BiRealNet:
    """Bi-Real Net 34: stages of 6, 8, 12, 6 blocks. Arguments and errors: as `bireal_net18`."""
    return _build("bireal_net34", method, num_classes, in_channels, input_size, (6, 8, 12, 6))


def _build(
    owner: str,
    method: Method | None,
    num_classes: int,
    in_channels: int,
    input_size: int,
    blocks: tuple[int, ...],
) -> BiRealNet:
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    model = BiRealNet(method, num_classes, in_channels, blocks=blocks)
    materialize(model, in_channels, input_size)
    return model
