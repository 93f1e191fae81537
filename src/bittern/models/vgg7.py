# SPDX-License-Identifier: Apache-2.0
"""VGG7, the network that WAGE (arXiv 1802.04680) trains on CIFAR-10: no norms, no biases, every layer low-bit."""

from __future__ import annotations

from torch import Tensor, nn

from bittern.models._layers import check_arguments, conv, linear, maps_behind, materialize, start_weights
from bittern.quantizer import Method
from bittern.start import HeNormal

HALVINGS = 3
"""Max pools of 2x2; each rounds the size down."""
HIDDEN = 8
"""Features of the first linear layer over the width."""


class VGG7(nn.Module):
    """x [batch, in_channels, size, size] -> logits [batch, num_classes].

    Six times conv 3x3 -> [MaxPool 2x2, behind every second] -> ReLU of widths w, w, 2w, 2w, 4w, 4w; linear of 8w
    features -> ReLU -> linear. All of them, the first and the last as well, have the method; none has a bias.
    Real layers start as He says, N(0, 2 / fan_in).
    """

    def __init__(self, method: Method | None, num_classes: int, in_channels: int, input_size: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, ends = in_channels, []
        for out in (1, 2, 4):
            layers += [conv(channels, out * width, 3, 1, method), nn.ReLU()]
            channels = out * width
            ends.append(len(layers))
            layers += [conv(channels, channels, 3, 1, method), nn.MaxPool2d(2), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.size_ends = (*ends, len(layers))
        side = input_size // 2**HALVINGS
        self.flatten = nn.Flatten()
        self.hidden = linear(channels * side * side, HIDDEN * width, method)
        self.activation = nn.ReLU()
        self.head = linear(HIDDEN * width, num_classes, method)
        start_weights(self, HeNormal())

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The map in front of the second convolution of each size, and what the linear layers see."""
        return maps_behind(self.features, self.size_ends, x)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.hidden(self.flatten(self.feature_maps(x)[-1])))
        logits: Tensor = self.head(hidden)
        return logits


def vgg7(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    input_size: int = 32,
    width: int = 128,
) -> VGG7:
    """VGG7 for x [batch, in_channels, input_size, input_size]; widths 128, 128, 256, 256, 512, 512, then 1024.

    method: a Quantizer class (the paper's: bittern.quant.WAGE) or a partial of one; None: the same network with real
    weights. input_size: height and width, at least 8. width: channels of the first two convolutions.

    Raises: TypeError when `method` is no class; ValueError for sizes that are too small.
    """
    owner = "vgg7"
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size, width=width)
    if input_size < 2**HALVINGS:
        raise ValueError(
            f"{owner}: input_size must be at least {2**HALVINGS}, it is halved {HALVINGS} times; got {input_size}"
        )
    model = VGG7(method, num_classes, in_channels, input_size, width)
    materialize(model, in_channels, input_size)
    return model
