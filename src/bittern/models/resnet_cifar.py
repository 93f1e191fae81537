# SPDX-License-Identifier: Apache-2.0
"""ResNet-20 and ResNet-18 for small images, as ReCU has them (Xu et al. 2021, arXiv 2103.12369).

Float: the first 3x3 convolution and the last linear layer. Everything between is low-bit. A shortcut that changes the
size is AvgPool 2x2 and zero channels on both sides: no parameters. Hardtanh after each addition; a BatchNorm1d before
the linear layer. Convolutions start as He says, N(0, 2 / fan_in), unless their method starts otherwise; the linear
layer starts as torch's. Sizes that are odd before a stride of 2 (28x28 input) are halved upward by both branches.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

from torch import Tensor, nn

from bittern.models._layers import PadChannels, check_arguments, conv, halve, maps_behind, materialize, start_weights
from bittern.quantizer import Method
from bittern.start import HeNormal

Shortcut = Literal["per_conv", "per_block"]


class PerConvBlock(nn.Module):
    """Two convolutions, each with its own shortcut: x = Hardtanh(BN(conv(x)) + shortcut(x)), twice."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, method: Method | None) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, 3, stride, method)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)
        self.act1 = nn.Hardtanh()
        self.conv2 = conv(out_channels, out_channels, 3, 1, method)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.act2 = nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        x = self.act1(self.bn1(self.conv1(x)) + skip)
        y: Tensor = self.act2(self.bn2(self.conv2(x)) + x)
        return y


class PerBlockBlock(nn.Module):
    """Two convolutions and one shortcut: Hardtanh(BN(conv2(Hardtanh(BN(conv1(x))))) + shortcut(x))."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, method: Method | None) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, out_channels, 3, stride, method)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.act1 = nn.Hardtanh()
        self.conv2 = conv(out_channels, out_channels, 3, 1, method)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)
        self.act2 = nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        y = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        z: Tensor = self.act2(y + skip)
        return z


class ResNetCifar(nn.Module):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes].

    widths, blocks: channels and number of blocks of each stage; every stage but the first halves the size.
    stem_activation: a Hardtanh after the first convolution's norm.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        *,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        shortcut: Shortcut,
        stem_activation: bool,
    ) -> None:
        super().__init__()
        stem: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0])]
        self.stem = nn.Sequential(*stem, *([nn.Hardtanh()] if stem_activation else []))
        block = PerConvBlock if shortcut == "per_conv" else PerBlockBlock
        layers: list[nn.Module] = []
        channels = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for index in range(count):
                layers.append(block(channels, width, 2 if stage > 0 and index == 0 else 1, method))
                channels = width
        self.blocks = nn.Sequential(*layers)
        self.stage_ends = tuple(accumulate(blocks))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.norm = nn.BatchNorm1d(channels)
        self.head = nn.Linear(channels, num_classes)
        start_weights(self, HeNormal("in"))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each stage."""
        return maps_behind(self.blocks, self.stage_ends, self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        x = self.flatten(self.pool(self.feature_maps(x)[-1]))
        logits: Tensor = self.head(self.norm(x))
        return logits


def resnet20_cifar(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    input_size: int = 32,
    shortcut: Shortcut = "per_conv",
) -> ResNetCifar:
    """ResNet-20: stages of 16, 32, 64 channels, 3 blocks each, for x [batch, in_channels, 32, 32].

    method: a Quantizer class or a partial of one; None: the same network with float convolutions.
    shortcut: "per_conv", around every convolution (ReCU, Bi-Real Net), or "per_block", around two (He et al.).
    input_size: height and width, which methods whose parameters depend on the output size (XNOR-Net++) then need.

    Raises: TypeError when `method` is no class; ValueError for a size below 1 or another shortcut.
    """
    return _build(
        "resnet20_cifar", method, num_classes, in_channels, input_size, shortcut, (16, 32, 64), (3, 3, 3), True
    )


def resnet18_cifar(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    input_size: int = 32,
    shortcut: Shortcut = "per_block",
) -> ResNetCifar:
    """ResNet-18: stages of 64, 128, 256, 512 channels, 2 blocks each, for x [batch, in_channels, 32, 32].

    Its first convolution is followed by a norm only. Arguments and errors: as `resnet20_cifar`.
    """
    widths = (64, 128, 256, 512)
    return _build("resnet18_cifar", method, num_classes, in_channels, input_size, shortcut, widths, (2, 2, 2, 2), False)


def _build(
    owner: str,
    method: Method | None,
    num_classes: int,
    in_channels: int,
    input_size: int,
    shortcut: Shortcut,
    widths: tuple[int, ...],
    blocks: tuple[int, ...],
    stem_activation: bool,
) -> ResNetCifar:
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    if shortcut not in ("per_conv", "per_block"):
        raise ValueError(f'{owner}: shortcut must be "per_conv" or "per_block"; got {shortcut!r}')
    model = ResNetCifar(
        method,
        num_classes,
        in_channels,
        widths=widths,
        blocks=blocks,
        shortcut=shortcut,
        stem_activation=stem_activation,
    )
    materialize(model, in_channels, input_size)
    return model


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if stride == 1:
        return None
    return nn.Sequential(halve(), PadChannels((out_channels - in_channels) // 2))
