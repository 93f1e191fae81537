# SPDX-License-Identifier: Apache-2.0
"""Points: MNIST's digits as sets of points in the plane."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bittern import models
from bittern.bench.tracks.parts import SHOWN, Parts, png, tensor_parts
from bittern.bench.tracks.problem import Network, Problem
from bittern.bench.tracks.problems._series import real_inputs, recipe
from bittern.data.mnist import DIGITS, mnist
from bittern.data.points import points_of
from bittern.quantizer import Method

FOLDER = "mnist"
POINTS = 64
SEEDS = (0, 1)
"""Of the points of training and test images."""
BATCH_SIZE = 50
LEARNING_RATE = 3e-3


def _build(method: Method | None) -> nn.Module:
    return models.point_net(method, len(DIGITS), 2, input_size=POINTS)


def _read(data: Path | None, train_size: int | None) -> Parts:
    assert data is not None  # Problem.load has looked
    images = mnist(data / FOLDER)
    train, test = (
        points_of(part, POINTS, seed=seed)
        for part, seed in zip((images.train_images, images.test_images), SEEDS, strict=True)
    )
    shown = [png(image) for image in images.test_images[:SHOWN]]
    return tensor_parts((train, images.train_labels), (test, images.test_labels), train_size, shown)


POINT_DIGITS = Problem(
    name="point_digits",
    title="Digits as points",
    source=f"MNIST (LeCun, Cortes, Burges; commonly stated as CC BY-SA 3.0), {POINTS} points drawn once from the "
    "bright pixels of each image",
    networks={"point_net": Network(_build, "MLP")},
    recipe=recipe(BATCH_SIZE, LEARNING_RATE),
    inputs=real_inputs(2, POINTS),
    read=_read,
    folder=FOLDER,
    classes=DIGITS,
)
