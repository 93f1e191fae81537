# SPDX-License-Identifier: Apache-2.0
"""BinaryDenseNet (Bethge et al. 2019, arXiv 1906.08637): every layer adds 64 channels to those before it.

A layer is x -> [x, conv3x3(BN(x))], low-bit, with -1 around the image. Between stages: BN, max pool 2x2, ReLU and a
float 1x1 convolution; behind the last BN, ReLU, the mean over the image and a linear layer, all float. The first layers
are those of ResNet; images of less than 50 pixels have a single 3x3 convolution instead, as the authors' "thumbnail".

The float twin (method=None) has a Hardtanh where the sign stands, without which its layers would be linear, and 0
around the image. The 37 of `binary_densenet37_dilated` halves twice less: dilations of 2 and 4 take the place of pools.
Sizes of transitions are the authors' (channels over their reduction, rounded to a multiple of 32).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import THUMBNAIL, check_arguments, maps_behind, materialize, padded_conv, start_weights
from bittern.quantizer import Method
from bittern.start import HeNormal

GROWTH = 64
"""Channels that a layer adds; also those of the first layers."""
PADDING = -1
"""What surrounds the image of signs."""


class Shape(NamedTuple):
    """Of a network of dense stages."""

    layers: tuple[int, ...]
    """Of each stage."""
    transitions: tuple[int, ...]
    """Channels between stages, one fewer."""
    dilations: tuple[int, ...] = (1, 1, 1, 1)
    """Of each stage; one that is dilated has no pool in front of it."""
    groups: int = 1
    """Of the 1x1 convolutions between stages; where there are several, channels are shuffled in front of them."""


SHUFFLED = 16
"""Groups of the channel shuffle in front of grouped 1x1 convolutions."""


class DenseLayer(nn.Module):
    """[batch, c, h, w] -> [batch, c + 64, h, w]: the channels that came, and 64 new ones."""

    def __init__(self, channels: int, method: Method | None, dilation: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.clip = nn.Hardtanh() if method is None else None
        self.conv = padded_conv(channels, GROWTH, method, PADDING, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(x)
        return torch.cat((x, self.conv(y if self.clip is None else self.clip(y))), 1)


def plain_stem(in_channels: int) -> nn.Module:
    """ResNet's first layers: a quarter of the size."""
    return nn.Sequential(
        nn.Conv2d(in_channels, GROWTH, 7, 2, 3, bias=False),
        nn.BatchNorm2d(GROWTH),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    )


def transition(channels: int, out_channels: int, *, pool: bool, groups: int) -> nn.Module:
    """BN, max pool, ReLU, float 1x1 convolution."""
    layers: list[nn.Module] = [nn.BatchNorm2d(channels)]
    layers += [nn.MaxPool2d(2)] if pool else []
    layers += [nn.ReLU()]
    layers += [nn.ChannelShuffle(SHUFFLED)] if groups > 1 else []
    layers += [nn.Conv2d(channels, out_channels, 1, groups=groups, bias=False)]
    return nn.Sequential(*layers)


class DenseStages(ImageClassifier):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes].

    units: makes from channels, method and dilation what one layer of a stage is; each adds `GROWTH` channels.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        *,
        shape: Shape,
        stem: nn.Module,
        units: Callable[[int, Method | None, int], Sequence[nn.Module]],
    ) -> None:
        super().__init__()
        self.stem = stem
        stages: list[nn.Module] = []
        channels = GROWTH
        for place, (count, dilation) in enumerate(zip(shape.layers, shape.dilations, strict=True)):
            stage: list[nn.Module] = []
            if place:
                width = shape.transitions[place - 1]
                stage.append(transition(channels, width, pool=dilation == 1, groups=shape.groups))
                channels = width
            for _ in range(count):
                stage += units(channels, method, dilation)
                channels += GROWTH
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.norm = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.end_with(channels, num_classes)
        start_weights(self, HeNormal("in"))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each stage; the last behind norm and ReLU."""
        return maps_behind(self.stages, range(1, len(self.stages) + 1), self.stem(x), self.norm)


def build_dense(
    owner: str,
    method: Method | None,
    num_classes: int,
    in_channels: int,
    input_size: int,
    *,
    shape: Shape,
    stem: Callable[[int], nn.Module],
    units: Callable[[int, Method | None, int], Sequence[nn.Module]],
) -> DenseStages:
    """A network of dense stages. Raises: TypeError, ValueError as `binary_densenet28`."""
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    small = input_size < THUMBNAIL
    first = nn.Conv2d(in_channels, GROWTH, 3, 1, 1, bias=False) if small else stem(in_channels)
    model = DenseStages(method, num_classes, in_channels, shape=shape, stem=first, units=units)
    materialize(model, in_channels, input_size)
    return model


def _layer(channels: int, method: Method | None, dilation: int) -> list[nn.Module]:
    return [DenseLayer(channels, method, dilation)]


def binary_densenet28(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """BinaryDenseNet-28: stages of 6, 6, 6, 5 layers, for x [batch, in_channels, 224, 224].

    method: a Quantizer class or a partial of one (the authors': `partial(BNN, limit=1.3, clip_latent=1.3)`); None: the
    float twin that the module's docstring describes.
    input_size: height and width; below 50 the first layers keep them.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    shape = Shape((6, 6, 6, 5), (160, 192, 256))
    return _dense("binary_densenet28", method, num_classes, in_channels, input_size, shape)


def binary_densenet37(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """BinaryDenseNet-37: stages of 6, 8, 12, 6 layers. Arguments and errors: as `binary_densenet28`."""
    shape = Shape((6, 8, 12, 6), (128, 192, 256))
    return _dense("binary_densenet37", method, num_classes, in_channels, input_size, shape)


def binary_densenet37_dilated(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """BinaryDenseNet-37 whose last two stages are dilated by 2 and 4. Arguments and errors: as `binary_densenet28`."""
    shape = Shape((6, 8, 12, 6), (128, 192, 256), (1, 1, 2, 4))
    return _dense("binary_densenet37_dilated", method, num_classes, in_channels, input_size, shape)


def binary_densenet45(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> DenseStages:
    """BinaryDenseNet-45: stages of 6, 12, 14, 8 layers. Arguments and errors: as `binary_densenet28`."""
    shape = Shape((6, 12, 14, 8), (160, 288, 288))
    return _dense("binary_densenet45", method, num_classes, in_channels, input_size, shape)


def _dense(
    owner: str, method: Method | None, num_classes: int, in_channels: int, input_size: int, shape: Shape
) -> DenseStages:
    return build_dense(owner, method, num_classes, in_channels, input_size, shape=shape, stem=plain_stem, units=_layer)
