# SPDX-License-Identifier: Apache-2.0
"""AlexNet as XNOR-Net has it (Rastegari et al. 2016, arXiv 1603.05279): norm, sign, convolution, pool.

Float 11x11 of stride 4 -> BN -> ReLU -> max pool, then BN -> conv (low-bit) -> [max pool] for 5x5 and three times 3x3,
BN -> linear (low-bit) twice, BN -> ReLU -> linear (float). Pools are 3x3 of stride 2. Behind a low-bit layer there is
no other activation than the next sign.

Differences: images of 224 pixels within 2, which gives the sizes of the authors' 227 (55, 27, 13, 6); layers in front
of a norm have no bias; there is no dropout, which the low-bit layers of jiecaoyu/XNOR-Net-PyTorch have behind the sign,
where it would put a third value. Images of less than 63 pixels, which three pools would leave nothing of, have a 5x5 of
stride 1 first. The float twin (method=None) has a Hardtanh where the sign stands, without which its layers would be
linear.
"""

from __future__ import annotations

from torch import Tensor, nn

from bittern.models._layers import check_arguments, conv, linear, maps_behind, materialize, start_weights
from bittern.quantizer import Method
from bittern.start import HeNormal

WIDTHS = (96, 256, 384, 384, 256)
"""Channels of the five convolutions."""
HIDDEN = 4096
"""Outputs of the two low-bit linear layers."""
SMALLEST_STRIDED = 63
"""Pixels of the smallest image that a first stride of 4 and three pools leave a pixel of."""
SMALLEST = 15
"""Pixels of the smallest image that three pools leave a pixel of."""


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, 2)


def _stem(in_channels: int, channels: int, input_size: int) -> tuple[nn.Module, int]:
    """The first layers, and the size of what they hand on."""
    if input_size < SMALLEST_STRIDED:
        kernel, stride = 5, 1
    else:
        kernel, stride = 11, 4
    first = nn.Conv2d(in_channels, channels, kernel, stride, 2, bias=False)
    size = _pooled((input_size + 2 * 2 - kernel) // stride + 1)
    return nn.Sequential(first, nn.BatchNorm2d(channels), nn.ReLU(), _pool()), size


def _pooled(size: int) -> int:
    return (size - 3) // 2 + 1


class SignLayer(nn.Module):
    """BN -> low-bit layer -> [max pool]; the twin's has a Hardtanh between the first two."""

    def __init__(self, norm: nn.Module, layer: nn.Module, method: Method | None, *, pool: bool) -> None:
        super().__init__()
        self.bn = norm
        self.clip = nn.Hardtanh() if method is None else None
        self.layer = layer
        self.pool = _pool() if pool else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        y: Tensor = self.layer(x if self.clip is None else self.clip(x))
        return y if self.pool is None else self.pool(y)


class AlexNet(nn.Module):
    """x [batch, in_channels, size, size] -> logits [batch, num_classes].

    widths: channels of the convolutions; hidden: outputs of the low-bit linear layers.
    """

    def __init__(
        self,
        method: Method | None,
        num_classes: int,
        in_channels: int,
        input_size: int,
        *,
        widths: tuple[int, ...],
        hidden: int,
    ) -> None:
        super().__init__()
        one, two, three, four, five = widths
        self.stem, size = _stem(in_channels, one, input_size)
        size = _pooled(_pooled(size))
        self.convs = nn.Sequential(
            SignLayer(nn.BatchNorm2d(one), conv(one, two, 5, 1, method), method, pool=True),
            SignLayer(nn.BatchNorm2d(two), conv(two, three, 3, 1, method), method, pool=False),
            SignLayer(nn.BatchNorm2d(three), conv(three, four, 3, 1, method), method, pool=False),
            SignLayer(nn.BatchNorm2d(four), conv(four, five, 3, 1, method), method, pool=True),
        )
        self.flatten = nn.Flatten()
        features = five * size * size
        self.linears = nn.Sequential(
            SignLayer(nn.BatchNorm1d(features), linear(features, hidden, method), method, pool=False),
            SignLayer(nn.BatchNorm1d(hidden), linear(hidden, hidden, method), method, pool=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
        )
        self.head = nn.Linear(hidden, num_classes)
        start_weights(self, HeNormal("in"))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each size: what leaves the pools."""
        return maps_behind(self.convs, (0, 1, len(self.convs)), self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.linears(self.flatten(self.feature_maps(x)[-1])))
        return logits


def alexnet(
    method: Method | None = None,
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    input_size: int = 224,
    hidden: int = HIDDEN,
) -> AlexNet:
    """AlexNet in XNOR-Net's form, for x [batch, in_channels, input_size, input_size].

    method: a Quantizer class (the paper's: bittern.binary.XNORNet) or a partial of one; None: the float twin that the
    module's docstring describes.
    input_size: height and width, at least 15; the first linear layer's size depends on them.
    hidden: outputs of the two low-bit linear layers, where nearly all weights are.

    Raises: TypeError when `method` is no class; ValueError for sizes that are too small.
    """
    owner = "alexnet"
    sizes = {"num_classes": num_classes, "in_channels": in_channels, "input_size": input_size, "hidden": hidden}
    check_arguments(owner, method, **sizes)
    if input_size < SMALLEST:
        raise ValueError(f"{owner}: input_size must be at least {SMALLEST}, three pools follow; got {input_size}")
    model = AlexNet(method, num_classes, in_channels, input_size, widths=WIDTHS, hidden=hidden)
    materialize(model, in_channels, input_size)
    return model
