# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 in a lossy copy: photographs of ten kinds of things, 32 x 32 pixels."""

from __future__ import annotations

from pathlib import Path

from bittern.bench.tracks.parts import Parts, image_parts
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.problems._images import image_inputs, image_networks, image_recipe, image_use
from bittern.data.augment import RandomCropFlip
from bittern.data.cifar10 import CLASSES, SIDE, cifar10
from bittern.pretrained.use import Use
from bittern.recipes.record import CROP_PADDING

FOLDER = "cifar10_jpeg75"


def _read(data: Path | None, train_size: int | None) -> Parts:
    assert data is not None  # Problem.load has looked
    return image_parts(cifar10(data / FOLDER), train_size)


def _use(data: Path | None) -> Use:
    assert data is not None  # Problem.load has looked
    return image_use(cifar10(data / FOLDER))


CIFAR10_JPEG75 = Problem(
    name=FOLDER,
    title="CIFAR-10, JPEG copy",
    source="60,000 colour photographs (Krizhevsky 2009; a citation is asked for, no formal licence) as JPEG of quality "
    "75: about ten points harder for networks of the lossless set, so compare with the float twin here, not with "
    "published figures",
    networks=image_networks(3, SIDE, len(CLASSES)),
    recipe=image_recipe(RandomCropFlip(padding=CROP_PADDING[SIDE])),
    inputs=image_inputs(3, SIDE),
    read=_read,
    folder=FOLDER,
    classes=CLASSES,
    pictures=True,
    use=_use,
    licence="no formal licence; a citation is asked for: A. Krizhevsky, Learning Multiple Layers of Features from Tiny "
    "Images, 2009",
)
