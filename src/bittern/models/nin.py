# SPDX-License-Identifier: Apache-2.0
"""Network in Network for CIFAR-10 (Lin et al. 2013, arXiv 1312.4400) with signs, as jiecaoyu/XNOR-Net-PyTorch has it.

Three groups of a k x k convolution and two of 1x1, k = 5, 5, 3, with 192, 160, 96 and then 192 channels; a max pool and
a mean between them. Float: the very first convolution, with BN and ReLU behind it, and the last 1x1 one, with a norm in
front of it; its ReLU and the mean over the image give the logits. All others are BN -> conv (low-bit) -> ReLU.

Differences: no dropout, which that code has behind the sign, where it would put a third value; norms' weights are not
kept above 0.01; the last mean is of the whole image, whatever its size. The float twin (method=None) has no sign; its
ReLUs keep it from being linear. Without shortcuts it learns slowly: on digits in 8 epochs far less than the others.
"""

from __future__ import annotations

from torch import Tensor, nn

from bittern.models._layers import check_arguments, maps_behind, materialize, start_weights
from bittern.nn.conv import BinaryConv2d
from bittern.quantizer import Method
from bittern.start import HeNormal

WIDTHS = (192, 160, 96)
"""Channels of the first group; the two others have those of its first convolution."""


class NINLayer(nn.Module):
    """ReLU(conv(BN(x))), low-bit, with a bias: the norm stands in front."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, method: Method | None) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        sizes = (in_channels, out_channels, kernel, 1, kernel // 2)
        self.conv = nn.Conv2d(*sizes) if method is None else BinaryConv2d(*sizes, bias=True, method=method)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.conv(self.bn(x)))
        return y


class NIN(nn.Module):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes], none below 0.

    widths: channels of the first group.
    """

    def __init__(
        self, method: Method | None, num_classes: int, in_channels: int, *, widths: tuple[int, int, int]
    ) -> None:
        super().__init__()
        wide, middle, narrow = widths
        self.stem = nn.Sequential(nn.Conv2d(in_channels, wide, 5, 1, 2), nn.BatchNorm2d(wide, affine=False), nn.ReLU())
        groups = (
            ((wide, middle, 1), (middle, narrow, 1)),
            ((narrow, wide, 5), (wide, wide, 1), (wide, wide, 1)),
            ((wide, wide, 3), (wide, wide, 1)),
        )
        pools = (nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1))
        layers: list[nn.Module] = []
        ends: list[int] = []
        for place, group in enumerate(groups):
            layers += [pools[place - 1]] if place else []
            layers += [NINLayer(*sizes, method) for sizes in group]
            ends.append(len(layers))
        self.layers = nn.Sequential(*layers)
        self.size_ends = tuple(ends)
        self.norm = nn.BatchNorm2d(wide, affine=False)
        self.head = nn.Conv2d(wide, num_classes, 1)
        self.act = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        start_weights(self, HeNormal("in"))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each group; the last behind the norm."""
        *maps, last = maps_behind(self.layers, self.size_ends, self.stem(x))
        return (*maps, self.norm(last))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.flatten(self.pool(self.act(self.head(self.feature_maps(x)[-1]))))
        return logits


def nin(method: Method | None = None, num_classes: int = 10, in_channels: int = 3, *, input_size: int = 32) -> NIN:
    """Network in Network for x [batch, in_channels, 32, 32].

    method: a Quantizer class (that code's: bittern.binary.XNORNet without its scale of inputs) or a partial of one;
    None: the same network with float layers.
    input_size: height and width, which methods whose parameters depend on the output size (XNOR-Net++) then need.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    check_arguments("nin", method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    model = NIN(method, num_classes, in_channels, widths=WIDTHS)
    materialize(model, in_channels, input_size)
    return model
