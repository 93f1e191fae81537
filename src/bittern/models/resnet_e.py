# SPDX-License-Identifier: Apache-2.0
"""ResNetE-18 and 34 (Bethge et al. 2019, arXiv 1906.08637): Bi-Real Net's shortcuts, made as simple as they train.

A block is one low-bit 3x3 convolution with one shortcut, y = BN(conv(x)) + shortcut(x), with -1 around the image. Where
the size is halved, the shortcut is AvgPool 2x2, a float 1x1 convolution and a norm. There is no other activation than
the sign, but a ReLU behind the last block. Float too: the first layers, which are ResNet's with a second norm behind
their pool, and the linear layer. Images of less than 50 pixels have a single 3x3 convolution first.

Differences: the code of BMXNet-v2 normalizes images by a norm without a weight in front of the first layer; here, as in
larq's zoo, data are normalized. The float twin (method=None) has a Hardtanh where the sign stands, without which its
layers would be linear, and 0 around the image.
"""

from __future__ import annotations

from itertools import accumulate

from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import (
    THUMBNAIL,
    check_arguments,
    halve,
    maps_behind,
    materialize,
    padded_conv,
    start_weights,
)
from bittern.models.binary_densenet import PADDING, plain_stem
from bittern.models.bireal_net import STAGE_WIDTHS
from bittern.models.melius_net import grouped_stem
from bittern.quantizer import Method
from bittern.start import HeNormal


class ResNetEBlock(nn.Module):
    """[batch, in, h, w] -> [batch, out, h / stride, w / stride]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, method: Method | None) -> None:
        super().__init__()
        self.clip = nn.Hardtanh() if method is None else None
        self.conv = padded_conv(in_channels, out_channels, method, PADDING, stride=stride)
        self.bn = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module | None = None
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                halve(), nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        y: Tensor = self.bn(self.conv(x if self.clip is None else self.clip(x))) + skip
        return y


class ResNetE(ImageClassifier):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes].

    stem: the first layers, which give `widths[0]` channels. widths, blocks: channels and number of blocks of each
    stage; every stage but the first halves the size.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        *,
        stem: nn.Module,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.stem = stem
        layers: list[nn.Module] = []
        channels = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for index in range(count):
                layers.append(ResNetEBlock(channels, width, 2 if stage > 0 and index == 0 else 1, method))
                channels = width
        self.blocks = nn.Sequential(*layers)
        self.stage_ends = tuple(accumulate(blocks))
        self.act = nn.ReLU()
        self.end_with(channels, num_classes)
        start_weights(self, HeNormal("in"))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each stage; the last behind a ReLU."""
        return maps_behind(self.blocks, self.stage_ends, self.stem(x), self.act)


def resnet_e18(
    method: Method | None = None,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    input_size: int = 224,
    grouped: bool = False,
) -> ResNetE:
    """ResNetE-18: stages of 4 blocks of 64, 128, 256, 512 channels, for x [batch, in_channels, 224, 224].

    method: a Quantizer class or a partial of one (the authors': `partial(BNN, limit=1.25, clip_latent=1.25)`); None:
    the float twin that the module's docstring describes.
    input_size: height and width; below 50 the first layers keep them.
    grouped: MeliusNet's first layers, of three 3x3 convolutions, in place of the 7x7 one.

    Raises: TypeError when `method` is no class; ValueError for a size below 1, and for grouped layers of small images.
    """
    return _build("resnet_e18", method, num_classes, in_channels, input_size, (4, 4, 4, 4), grouped=grouped)


def resnet_e34(
    method: Method | None = None,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    input_size: int = 224,
    grouped: bool = False,
) -> ResNetE:
    """ResNetE-34: stages of 6, 8, 12, 6 blocks. Arguments and errors: as `resnet_e18`."""
    return _build("resnet_e34", method, num_classes, in_channels, input_size, (6, 8, 12, 6), grouped=grouped)


def _build(
    owner: str,
    method: Method | None,
    num_classes: int,
    in_channels: int,
    input_size: int,
    blocks: tuple[int, ...],
    *,
    grouped: bool,
) -> ResNetE:
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    width = STAGE_WIDTHS[0]
    if input_size < THUMBNAIL:
        if grouped:
            raise ValueError(
                f"{owner}: images below {THUMBNAIL} pixels have a single first layer; got input_size={input_size}; "
                "drop grouped"
            )
        stem: nn.Module = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
    else:
        first = grouped_stem(in_channels) if grouped else plain_stem(in_channels)
        stem = nn.Sequential(first, nn.BatchNorm2d(width))
    model = ResNetE(method, num_classes, stem=stem, widths=STAGE_WIDTHS, blocks=blocks)
    materialize(model, in_channels, input_size)
    return model
