# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST: photographs of clothes, 28 x 28 pixels."""

from __future__ import annotations

from pathlib import Path

from bittern.bench.tracks.parts import Parts, image_parts
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.problems._images import image_inputs, image_networks, image_recipe, image_use
from bittern.data.mnist import FASHION, fashion_mnist
from bittern.pretrained.use import Use

FOLDER = "fashion_mnist"
SIDE = 28


def _read(data: Path | None, train_size: int | None) -> Parts:
    assert data is not None  # Problem.load has looked
    return image_parts(fashion_mnist(data / FOLDER), train_size)


def _use(data: Path | None) -> Use:
    assert data is not None  # Problem.load has looked
    return image_use(fashion_mnist(data / FOLDER))


FASHION_MNIST = Problem(
    name="fashion_mnist",
    title="Fashion-MNIST",
    source="70,000 grey photographs of clothes (Zalando, arXiv 1708.07747), MIT",
    networks=image_networks(1, SIDE, len(FASHION)),
    recipe=image_recipe(),
    inputs=image_inputs(1, SIDE),
    read=_read,
    folder=FOLDER,
    classes=FASHION,
    pictures=True,
    use=_use,
    licence="MIT: Zalando SE, 2017",
)
