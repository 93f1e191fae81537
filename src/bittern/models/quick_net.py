# SPDX-License-Identifier: Apache-2.0
"""QuickNet (Bannink et al. 2021, arXiv 2011.09398): residual low-bit convolutions made for fast inference.

A block is x + BN(ReLU(conv3x3(x))), low-bit, with +1 around the image: the ReLU stands in front of the norm so that an
engine can end a convolution with both. Between stages: ReLU, a blurred max pool (max of 2x2 at stride 1, then the fixed
filter [1 2 1] x [1 2 1] / 16 at stride 2) and a float 1x1 convolution with a norm. Float too: the first layers (3x3 at
stride 2, depthwise 3x3 at stride 2, 1x1) and the linear layer behind ReLU and mean.

Differences from the released code: convolutions of stride 2 pad both sides alike, as torch does, where TensorFlow pads
an even size on its far side only; and images of less than 50 pixels, which the authors have not, keep their size in the
first layers. The float twin (method=None) has 0 around the image; its ReLUs keep it from being linear.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import THUMBNAIL, check_arguments, maps_behind, materialize, padded_conv, start_weights
from bittern.quantizer import Method
from bittern.start import HeNormal

PADDING = 1
"""What surrounds the image of signs."""
STEM_SHARE = 4
"""Channels of the first stage over those of the first convolution."""


class QuickBlock(nn.Module):
    """[batch, channels, h, w] -> the same."""

    def __init__(self, channels: int, method: Method | None) -> None:
        super().__init__()
        self.conv = padded_conv(channels, channels, method, PADDING)
        self.act = nn.ReLU()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.act(self.conv(x))) + x
        return y


class BlurPool(nn.Module):
    """[batch, channels, h, w] -> half the size: each channel with [1 2 1] x [1 2 1] / 16, at every second pixel."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4.0
        self.register_buffer("kernel", torch.outer(row, row).expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, stride=2, padding=1, groups=self.kernel.shape[0])


def _transition(channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.ReLU(),
        nn.MaxPool2d(2, 1),
        BlurPool(channels),
        nn.Conv2d(channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _stem(in_channels: int, channels: int, stride: int) -> nn.Module:
    first = channels // STEM_SHARE
    return nn.Sequential(
        nn.Conv2d(in_channels, first, 3, stride, 1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, first, 3, stride, 1, groups=first, bias=False),
        nn.BatchNorm2d(first, affine=False),
        nn.Conv2d(first, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


class QuickNet(ImageClassifier):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes].

    widths, blocks: channels and number of blocks of each stage.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        *,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        stride: int,
    ) -> None:
        super().__init__()
        self.stem = _stem(in_channels, widths[0], stride)
        stages: list[nn.Module] = []
        channels = widths[0]
        for place, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            between = [_transition(channels, width)] if place else []
            stages.append(nn.Sequential(*between, *(QuickBlock(width, method) for _ in range(count))))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.act = nn.ReLU()
        self.end_with(channels, num_classes)
        start_weights(self, HeNormal("in"))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each stage; the last behind a ReLU."""
        return maps_behind(self.stages, range(1, len(self.stages) + 1), self.stem(x), self.act)


def quicknet(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> QuickNet:
    """QuickNet: stages of 4 blocks of 64, 128, 256, 512 channels, for x [batch, in_channels, 224, 224].

    method: a Quantizer class or a partial of one (the authors': `partial(BNN, limit=1.25, clip_latent=1.25)`); None:
    the float twin. input_size: height and width; below 50 the first layers keep them.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    return _build("quicknet", method, num_classes, in_channels, input_size, (64, 128, 256, 512), (4, 4, 4, 4))


def quicknet_small(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> QuickNet:
    """QuickNetSmall: stages of 4 blocks of 32, 64, 256, 512 channels. Arguments and errors: as `quicknet`."""
    return _build("quicknet_small", method, num_classes, in_channels, input_size, (32, 64, 256, 512), (4, 4, 4, 4))


def quicknet_large(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> QuickNet:
    """QuickNetLarge: stages of 6, 8, 12, 6 blocks. Arguments and errors: as `quicknet`."""
    return _build("quicknet_large", method, num_classes, in_channels, input_size, (64, 128, 256, 512), (6, 8, 12, 6))


def _build(
    owner: str,
    method: Method | None,
    num_classes: int,
    in_channels: int,
    input_size: int,
    widths: tuple[int, ...],
    blocks: tuple[int, ...],
) -> QuickNet:
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    stride = 1 if input_size < THUMBNAIL else 2
    model = QuickNet(method, num_classes, in_channels, widths=widths, blocks=blocks, stride=stride)
    materialize(model, in_channels, input_size)
    return model
