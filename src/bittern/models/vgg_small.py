# SPDX-License-Identifier: Apache-2.0
"""VGG-small, the six-convolution network of the binary literature on CIFAR-10, as ReCU has it (arXiv 2103.12369)."""

from __future__ import annotations

from torch import Tensor, nn

from bittern.models._layers import check_arguments, conv, maps_behind, materialize, start_weights
from bittern.quantizer import Method
from bittern.start import HeNormal, Normal

HALVINGS = 3
"""Max pools of 2x2; each rounds the size down."""
HEAD_START = Normal(0.01)
"""Of the linear layer, whose bias starts at 0."""


class VGGSmall(nn.Module):
    """x [batch, in_channels, size, size] -> logits [batch, num_classes].

    conv (float) -> BN -> Hardtanh, five times low-bit conv -> [MaxPool 2x2] -> BN -> Hardtanh, linear (float); the
    pool comes after the convolutions 2, 4 and 6, before their norms. Widths w, w, 2w, 2w, 4w, 4w.
    Convolutions start as He says, N(0, 2 / fan_out), the linear layer in N(0, 0.01^2).
    """

    def __init__(self, method: Method | None, num_classes: int, in_channels: int, input_size: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.Hardtanh()]
        channels = width
        for out, pool in ((1, True), (2, False), (2, True), (4, False), (4, True)):
            layers.append(conv(channels, out * width, 3, 1, method))
            channels = out * width
            if pool:
                layers.append(nn.MaxPool2d(2))
            layers += [nn.BatchNorm2d(channels), nn.Hardtanh()]
        self.features = nn.Sequential(*layers)
        pools = [place for place, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        self.size_ends = (*(pool - 1 for pool in pools), len(layers))
        self.flatten = nn.Flatten()
        side = input_size // 2**HALVINGS
        self.head = nn.Linear(channels * side * side, num_classes)
        start_weights(self, HeNormal("out"))
        HEAD_START(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each size: in front of the convolution that a pool stands behind, and what the head sees."""
        return maps_behind(self.features, self.size_ends, x)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(self.feature_maps(x)[-1]))
        return logits


def vgg_small(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    input_size: int = 32,
    width: int = 128,
) -> VGGSmall:
    """VGG-small for x [batch, in_channels, input_size, input_size]; widths 128, 128, 256, 256, 512, 512.

    method: a Quantizer class or a partial of one; None: the same network with float convolutions.
    input_size: height and width, at least 8; the linear layer has 4 * width * floor(input_size / 8)^2 inputs.
    width: channels of the first two convolutions.

    Raises: TypeError when `method` is no class; ValueError for sizes that are too small.
    """
    owner = "vgg_small"
    check_arguments(owner, method, num_classes=num_classes, in_channels=in_channels, input_size=input_size, width=width)
    if input_size < 2**HALVINGS:
        raise ValueError(
            f"{owner}: input_size must be at least {2**HALVINGS}, it is halved {HALVINGS} times; got {input_size}"
        )
    model = VGGSmall(method, num_classes, in_channels, input_size, width)
    materialize(model, in_channels, input_size)
    return model
