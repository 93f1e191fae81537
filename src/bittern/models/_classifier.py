# SPDX-License-Identifier: Apache-2.0
"""The end of most networks: a mean over the image, or its tokens, and a linear layer behind their last feature map."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class ImageClassifier(nn.Module, ABC):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes], from the last of `feature_maps`."""

    pool: nn.Module
    flatten: nn.Module
    head: nn.Module

    def end_with(self, channels: int, num_classes: int) -> None:
        """Make the end, for so many channels of the last map; called once, where its weights are to be drawn."""
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels, num_classes)

    @abstractmethod
    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """x -> a tensor for each size of the image, from fine to coarse."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(self.pool(self.feature_maps(x)[-1])))
        return logits


class TokenClassifier(nn.Module, ABC):
    """x [batch, in_channels, height, width] -> logits [batch, num_classes], from the last of `feature_maps`."""

    head: nn.Module

    @abstractmethod
    def feature_maps(self, x: Tensor) -> tuple[Tensor, ...]:
        """x -> [batch, tokens, width] for each stage of the network."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.feature_maps(x)[-1].mean(1))
        return logits
