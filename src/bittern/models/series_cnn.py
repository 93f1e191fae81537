# SPDX-License-Identifier: Apache-2.0
"""A small 1-d network for series of sensors, in the block order of Bi-Real Net (arXiv 1808.00278)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bittern.models._layers import check_arguments, conv1d, maps_behind, materialize_on, start_weights
from bittern.quantizer import Method
from bittern.start import HeNormal


class SeriesBlock(nn.Module):
    """x + hardtanh(norm(conv(norm(x)))), a low-bit convolution of three taps with a shortcut of its own."""

    def __init__(self, channels: int, method: Method | None) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv = conv1d(channels, channels, 3, method)
        self.bn2 = nn.BatchNorm1d(channels)
        self.act = nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.bn2(self.conv(self.bn1(x))))
        return x + y


class SeriesCNN(nn.Module):
    """x [batch, in_channels, time] -> logits [batch, num_classes].

    Float: the first convolution, of seven taps and stride 2, and the last layer. Time is halved, by means of two, after
    half of the blocks.
    """

    def __init__(self, method: Method | None, num_classes: int, in_channels: int, *, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(in_channels, width, 7, 2, 3, bias=False)
        layers: list[nn.Module] = [SeriesBlock(width, method) for _ in range(blocks)]
        layers.insert(blocks // 2, nn.AvgPool1d(2, ceil_mode=True))
        self.blocks = nn.Sequential(*layers)
        self.size_ends = (blocks // 2, blocks + 1)
        self.norm = nn.BatchNorm1d(width)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(width, num_classes)
        start_weights(self, HeNormal("in"))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """The last map of each of two sizes; the second behind the norm."""
        fine, last = maps_behind(self.blocks, self.size_ends, self.stem(x))
        return fine, self.norm(last)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(self.pool(self.feature_maps(x)[-1])))
        return logits


def series_cnn(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    input_size: int = 64,
    width: int = 64,
    blocks: int = 4,
) -> SeriesCNN:
    """SeriesCNN for series [batch, in_channels, input_size].

    method: a Quantizer class or a partial of one; None: the same network with float layers.
    input_size: steps of time, which methods whose parameters depend on the output size (XNOR-Net++) then need.

    Raises: TypeError when `method` is no class; ValueError for a size below 1.
    """
    check_arguments(
        "series_cnn",
        method,
        num_classes=num_classes,
        in_channels=in_channels,
        input_size=input_size,
        width=width,
        blocks=blocks,
    )
    model = SeriesCNN(method, num_classes, in_channels, width=width, blocks=blocks)
    materialize_on(model, torch.zeros(1, in_channels, input_size))
    return model
