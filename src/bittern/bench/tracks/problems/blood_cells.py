# SPDX-License-Identifier: Apache-2.0
"""Blood cells: boxes around red cells, white cells and platelets under a microscope."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bittern import models
from bittern.bench.tracks.parts import SHOWN, Parts, png, tensor_parts
from bittern.bench.tracks.problem import Network, Problem
from bittern.bench.tracks.problems._series import real_inputs, recipe
from bittern.data.augment import normalize
from bittern.data.blood_cells import HEIGHT, WIDTH, BoxedImages, blood_cells
from bittern.data.images import channel_statistics
from bittern.models.cell_detector import STRIDE
from bittern.pretrained.answers import Boxes
from bittern.pretrained.preparations import ImagePreparation
from bittern.pretrained.use import Use
from bittern.quantizer import Method
from bittern.train.tasks.detection import NO_BOX, Detection

FOLDER = "bccd_detection"
CLASSES = ("RBC", "WBC", "Platelets")
SHRINK = 4
SIZE = (HEIGHT // SHRINK, WIDTH // SHRINK)
BATCH_SIZE = 8
LEARNING_RATE = 3e-3
SHOWN_FROM = 0.3
"""Score of a box that a user is shown; the metric counts those below too."""


def _build(method: Method | None) -> nn.Module:
    return models.cell_detector(method, len(CLASSES), 3, input_size=SIZE)


def _read(data: Path | None, train_size: int | None) -> Parts:
    assert data is not None  # Problem.load has looked
    found = blood_cells(data / FOLDER, SHRINK)
    if found.classes != CLASSES:
        raise ValueError(f"blood_cells: {data / FOLDER} must have the classes {CLASSES}; got {found.classes}")
    mean, std = channel_statistics(found.images[found.part == 0])
    images = normalize(found.images, mean, std)
    boxes, labels = _filled(found)

    def part(number: int) -> tuple[Tensor, Tensor, Tensor]:
        mine = found.part == number
        return images[mine], boxes[mine], labels[mine]

    shown = [png(image) for image in found.images[found.part == 2][:SHOWN]]
    return tensor_parts(part(0), part(2), train_size, shown, held_out=part(1))


def _use(data: Path | None) -> Use:
    assert data is not None  # Problem.load has looked
    found = blood_cells(data / FOLDER, SHRINK)
    mean, std = channel_statistics(found.images[found.part == 0])
    return Use(CLASSES, ImagePreparation((3, *SIZE), mean, std), Boxes(STRIDE, SHOWN_FROM))


def _filled(found: BoxedImages) -> tuple[Tensor, Tensor]:
    """Boxes [count, most, 4] and labels [count, most], as `Detection` takes them."""
    most = max(len(row) for row in found.labels)
    boxes = torch.zeros(len(found.boxes), most, 4)
    labels = torch.full((len(found.labels), most), NO_BOX)
    for i, (some, named) in enumerate(zip(found.boxes, found.labels, strict=True)):
        boxes[i, : len(some)], labels[i, : len(named)] = some, named
    return boxes, labels


BLOOD_CELLS = Problem(
    name="blood_cells",
    title="Blood cells (detection)",
    source="364 photographs with 4,888 boxes (BCCD, MIT), a quarter of their size in both directions; official parts; "
    "some cells have no box, which bounds every score",
    networks={"cell_detector": Network(_build, "CNN")},
    recipe=recipe(BATCH_SIZE, LEARNING_RATE),
    inputs=real_inputs(3, *SIZE),
    read=_read,
    folder=FOLDER,
    task=Detection(len(CLASSES), STRIDE),
    use=_use,
    licence="MIT: S. Gan, github.com/Shenggan/BCCD_Dataset",
)
