# SPDX-License-Identifier: Apache-2.0
"""Wand: digits drawn in the air, as the path that an inertial sensor finds."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bittern import models
from bittern.bench.tracks.parts import SHOWN, Parts, tensor_parts
from bittern.bench.tracks.problem import Network, Problem
from bittern.bench.tracks.problems._series import listed, normalized, picture, real_inputs, recipe, statistics
from bittern.data.strokes import LABELS, strokes
from bittern.pretrained.answers import Classes
from bittern.pretrained.preparations import StrokePreparation
from bittern.pretrained.use import Use
from bittern.quantizer import Method

FOLDER = "magic_wand_imu"
LENGTH = 64
"""Points of each stroke, after resampling; 32 to 145 were measured."""
TEST_SHARE = 0.2
SPLIT_SEED = 0
BATCH_SIZE = 25
LEARNING_RATE = 3e-3


def _build(method: Method | None) -> nn.Module:
    return models.series_cnn(method, len(LABELS), 2, input_size=LENGTH)


def _read(data: Path | None, train_size: int | None) -> Parts:
    assert data is not None  # Problem.load has looked
    found = strokes(data / FOLDER)
    series, labels = found.resampled(LENGTH), found.labels
    is_test = test_part(labels)
    train, test = normalized(series[~is_test], series[is_test])
    upright = torch.tensor([[1.0], [-1.0]])  # y of a stroke runs upward, that of a picture downward
    shown = [picture(stroke * upright) for stroke in series[is_test][:SHOWN]]
    return tensor_parts((train, labels[~is_test]), (test, labels[is_test]), train_size, shown)


def _use(data: Path | None) -> Use:
    assert data is not None  # Problem.load has looked
    found = strokes(data / FOLDER)
    mean, std = statistics(found.resampled(LENGTH)[~test_part(found.labels)])
    return Use(LABELS, StrokePreparation(LENGTH, listed(mean), listed(std)), Classes())


def test_part(labels: Tensor) -> Tensor:
    """Bool: a fifth of each class, rounded, drawn once and for all; the data have no official part and no names."""
    chosen = torch.zeros_like(labels, dtype=torch.bool)
    draw = torch.Generator().manual_seed(SPLIT_SEED)
    for label in range(len(LABELS)):
        members = (labels == label).nonzero().flatten()
        order = torch.randperm(len(members), generator=draw)
        chosen[members[order[: round(TEST_SHARE * len(members))]]] = True
    return chosen


WAND = Problem(
    name="wand",
    title="Wand strokes",
    source="1,000 digits drawn in the air (magic_wand_digit_data, Apache-2.0); a fifth of each class, drawn once, is "
    "the test part; the data do not say who drew, so the same people draw in both",
    networks={"series_cnn": Network(_build, "CNN")},
    recipe=recipe(BATCH_SIZE, LEARNING_RATE),
    inputs=real_inputs(2, LENGTH),
    read=_read,
    folder=FOLDER,
    classes=LABELS,
    use=_use,
    licence="Apache-2.0: P. Warden, github.com/petewarden/magic_wand_digit_data",
)
