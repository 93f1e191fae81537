# SPDX-License-Identifier: Apache-2.0
"""A multi-layer perceptron with low-bit hidden layers, in the block order of BNN (arXiv 1602.02830)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from bittern.models._layers import check_arguments, linear, maps_behind, materialize
from bittern.quantizer import Method

LAYER = 3
"""Modules that make one hidden layer: linear, norm, Hardtanh."""


class MLP(nn.Module):
    """x [batch, in_channels, size, size] -> logits [batch, num_classes].

    flatten -> linear (float) -> BN -> Hardtanh, then for each further width linear (low-bit) -> BN -> Hardtanh, and
    linear (float). Unlike BNN, the first and the last layer are float.
    """

    def __init__(
        self, method: Method | None, num_classes: int, in_channels: int, input_size: int, widths: tuple[int, ...]
    ) -> None:
        super().__init__()
        features = in_channels * input_size * input_size
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(features, widths[0], bias=False)]
        layers += [nn.BatchNorm1d(widths[0]), nn.Hardtanh()]
        for before, after in pairwise(widths):
            layers += [linear(before, after, method), nn.BatchNorm1d(after), nn.Hardtanh()]
        self.features = nn.Sequential(*layers)
        self.layer_ends = tuple(range(1 + LAYER, len(layers) + 1, LAYER))
        self.head = nn.Linear(widths[-1], num_classes)

    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """What leaves each Hardtanh, [batch, width]."""
        return maps_behind(self.features, self.layer_ends, x)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.feature_maps(x)[-1])
        return logits


def mlp(
    method: Method | None = None,
    num_classes: int = 10,
    in_channels: int = 1,
    *,
    input_size: int = 28,
    widths: tuple[int, ...] = (256, 256, 256),
) -> MLP:
    """MLP for x [batch, in_channels, input_size, input_size]: len(widths) - 1 low-bit layers between two float ones.

    method: a Quantizer class or a partial of one; None: the same network with float layers.

    Raises: TypeError when `method` is no class; ValueError for a size below 1, or fewer than two widths.
    """
    check_arguments("mlp", method, num_classes=num_classes, in_channels=in_channels, input_size=input_size)
    if len(widths) < 2 or any(not isinstance(w, int) or w < 1 for w in widths):
        raise ValueError(f"mlp: widths must be at least two integers of at least 1; got {widths}")
    model = MLP(method, num_classes, in_channels, input_size, tuple(widths))
    materialize(model, in_channels, input_size)
    return model
