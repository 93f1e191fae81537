# SPDX-License-Identifier: Apache-2.0
"""A small network for sets of points, after PointNet (Qi et al. 2016, arXiv 1612.00593)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from bittern.models._layers import check_arguments, conv1d, linear, maps_behind, materialize_on, start_weights
from bittern.quantizer import Method
from bittern.start import HeNormal


class PointNet(nn.Module):
    """x [batch, coordinates, points] -> logits [batch, num_classes], whatever the order of the points.

    conv (float) -> norm -> hardtanh, then for each further width conv (low-bit) -> norm -> hardtanh, all of one tap,
    the same for each point; then the maximum over the points, norm -> linear (low-bit) -> norm -> hardtanh -> linear
    (float). The last width has no hardtanh, and its norm stands behind the maximum, where it centres what the sign of
    the linear layer is taken of (BiPointNet, arXiv 2010.05501, shows what happens otherwise). Different from PointNet:
    no networks that turn the input; smaller.
    """

    def __init__(self, method: Method | None, num_classes: int, coordinates: int, *, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(coordinates, widths[0], 1, bias=False)]
        for before, after in pairwise(widths):
            layers += [nn.BatchNorm1d(before), nn.Hardtanh(), conv1d(before, after, 1, method)]
        self.features = nn.Sequential(*layers)
        self.layer_ends = tuple(place for place, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm1d))
        self.pool, self.flatten = nn.AdaptiveMaxPool1d(1), nn.Flatten()
        last, hidden = widths[-1], widths[-1] // 2
        self.hidden = nn.Sequential(
            nn.BatchNorm1d(last), linear(last, hidden, method), nn.BatchNorm1d(hidden), nn.Hardtanh()
        )
        self.head = nn.Linear(hidden, num_classes)
        start_weights(self, HeNormal("in"))

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What each convolution says of each point, [batch, width, points]; the last is what the maximum is of."""
        return maps_behind(self.features, (*self.layer_ends, len(self.features)), x)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(self.flatten(self.pool(self.feature_maps(x)[-1]))))
        return logits


def point_net(
    method: Method | None = None,
    num_classes: int = 10,
    coordinates: int = 2,
    *,
    input_size: int = 64,
    widths: tuple[int, ...] = (64, 64, 128, 256),
) -> PointNet:
    """PointNet for x [batch, coordinates, input_size].

    method: a Quantizer class or a partial of one; None: the same network with float layers.
    input_size: points, which methods whose parameters depend on the output size (XNOR-Net++) then need.

    Raises: TypeError when `method` is no class; ValueError for a size below 1, or fewer than two widths.
    """
    check_arguments("point_net", method, num_classes=num_classes, coordinates=coordinates, input_size=input_size)
    if len(widths) < 2 or any(not isinstance(w, int) or w < 1 for w in widths) or widths[-1] < 2:
        raise ValueError(f"point_net: widths must be at least two integers of at least 1, the last 2; got {widths}")
    model = PointNet(method, num_classes, coordinates, widths=tuple(widths))
    materialize_on(model, torch.zeros(1, coordinates, input_size))
    return model
