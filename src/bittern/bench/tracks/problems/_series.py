# SPDX-License-Identifier: Apache-2.0
"""What the classifications of sound, series and points share: normalization, random inputs, pictures of curves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bittern.bench.tracks.parts import png
from bittern.train import Cosine, Recipe

WARMUP = 0.1
PICTURE = 48
"""Pixels of a drawn stroke or set of points, in both directions."""


def normalized(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """[count, channels, time], less the mean of each channel over the training part, over its standard deviation.

    A channel that never changes becomes 0.
    """
    mean, spread = statistics(train)
    return (train - mean) / spread, (test - mean) / spread


def statistics(train: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (1 where it is 0) of each channel of [count, channels, time], [1, channels, 1]."""
    mean, spread = train.mean((0, 2), keepdim=True), train.std((0, 2), correction=0, keepdim=True)
    return mean, torch.where(spread > 0, spread, 1.0)


def listed(statistic: Tensor) -> tuple[float, ...]:
    """A statistic as data."""
    return tuple(statistic.flatten().tolist())


def real_inputs(*shape: int) -> Callable[[int], Tensor]:
    """Random ones, of mean 0 and variance 1."""
    return partial(_drawn, shape)


def _drawn(shape: tuple[int, ...], count: int) -> Tensor:
    return torch.randn(count, *shape)


def recipe(batch_size: int, learning_rate: float) -> Recipe:
    """AdamW with a warm-up and a cosine."""
    return Recipe(epochs=1, batch_size=batch_size, learning_rate=learning_rate, schedule=Cosine(warmup=WARMUP))


def picture(points: Tensor) -> str:
    """Points [2, count], x to the right and y downward, as a small picture: bright where there is one, see `png`."""
    low, high = points.amin(1, keepdim=True), points.amax(1, keepdim=True)
    # one scale for both directions, so that a drawing keeps its proportions
    scale = (PICTURE - 1) / float((high - low).max().clamp(min=torch.finfo(torch.float32).tiny))
    across, down = ((points - (low + high) / 2) * scale + (PICTURE - 1) / 2).round().long()
    image = torch.zeros(1, PICTURE, PICTURE)
    image[0, down, across] = 1.0
    return png(image)
