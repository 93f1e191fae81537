# SPDX-License-Identifier: Apache-2.0
"""Real-to-Binary net (Martinez et al. 2020, arXiv 2003.11535), a ResNet-18 with a shortcut around each convolution.

A half block is y = PReLU(conv(BN(x))) + shortcut(x), where the convolution's method brings the gate that scales it
(`bittern.binary.RealToBinary`). Two half blocks are a block, whose output is where attention is matched to a teacher's:
"blocks.0" ... "blocks.7". Where the size is halved, the shortcut is AvgPool 2x2, a float 1x1 convolution and a norm.
Float too: the 7x7 stem with its PReLU and the last linear layer.

The float twin (method=None) has a tanh where the sign stands, as the authors' teacher, and no gate; that teacher with
its gates is `real_to_binary_net(bittern.train.tanh_operands(RealToBinary))`.
"""

from __future__ import annotations

from torch import Tensor, nn

from bittern.models._classifier import ImageClassifier
from bittern.models._layers import check_arguments, conv, halve, maps_behind, materialize, start_weights
from bittern.quantizer import Method
from bittern.start import GlorotNormal

WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)
"""Channels of each block."""
SIZES_END = (2, 4, 6, 8)
"""Blocks after which the image is halved, and the last."""


class HalfBlock(nn.Module):
    """[batch, in, h, w] -> [batch, out, h / stride, w / stride]: one convolution with its shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, method: Method | None) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.tanh = nn.Tanh() if method is None else None
        self.conv = conv(in_channels, out_channels, 3, stride, method)
        self.act = nn.PReLU(out_channels)
        self.shortcut: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                halve(), nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.shortcut is None else self.shortcut(x)
        x = self.bn(x)
        if self.tanh is not None:
            x = self.tanh(x)
        y: Tensor = self.act(self.conv(x)) + skip
        return y


class RealToBinaryNet(ImageClassifier):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes]."""

    def __init__(self, method: Method | None, num_classes: int, in_channels: int) -> None:
        super().__init__()
        width = WIDTHS[0]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.MaxPool2d(3, 2, 1),
        )
        blocks: list[nn.Module] = []
        for after in WIDTHS:
            stride = 1 if after == width else 2
            blocks.append(nn.Sequential(HalfBlock(width, after, stride, method), HalfBlock(after, after, 1, method)))
            width = after
        self.blocks = nn.Sequential(*blocks)
        self.end_with(width, num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each size of the image."""
        return maps_behind(self.blocks, SIZES_END, self.stem(x))


def real_to_binary_net(
    method: Method | None = None, num_classes: int = 1000, in_channels: int = 3, *, input_size: int = 224
) -> RealToBinaryNet:
    """Real-to-Binary net for x [batch, in_channels, 224, 224]: 8 blocks of two 3x3 convolutions.

    Convolutions start as Glorot says, those of a method of another start as that says; torch's default elsewhere.
    method: a Quantizer class (the paper's: bittern.binary.RealToBinary) or a partial of one; None: the float twin that
    the module's docstring describes. input_size: height and width, which methods whose parameters depend on the output
    size (XNOR-Net++) then need.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    owner = "real_to_binary_net"
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    model = RealToBinaryNet(method, num_classes, in_channels)
    start_weights(model, GlorotNormal())
    materialize(model, in_channels, input_size)
    return model
