# SPDX-License-Identifier: Apache-2.0
"""Motions: what a smart watch measures while somebody stands, walks, runs or plays badminton."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from bittern import models
from bittern.bench.tracks.parts import Parts, tensor_parts
from bittern.bench.tracks.problem import Network, Problem
from bittern.bench.tracks.problems._series import normalized, real_inputs, recipe
from bittern.data.motions import basic_motions
from bittern.quantizer import Method

FOLDER = "motion_gestures"
CLASSES = ("Standing", "Running", "Walking", "Badminton")
CHANNELS, LENGTH = 6, 100
BATCH_SIZE = 6
LEARNING_RATE = 3e-3


def _build(method: Method | None) -> nn.Module:
    return models.series_cnn(method, len(CLASSES), CHANNELS, input_size=LENGTH)


def _read(data: Path | None, train_size: int | None) -> Parts:
    assert data is not None  # Problem.load has looked
    found = basic_motions(data / FOLDER)
    if found.classes != CLASSES or found.train.shape[1:] != (CHANNELS, LENGTH):
        raise ValueError(
            f"motions: {data / FOLDER} must hold series [{CHANNELS}, {LENGTH}] of {', '.join(CLASSES)}; got "
            f"{list(found.train.shape[1:])} of {', '.join(found.classes)}; fetch it again"
        )
    train, test = normalized(found.train, found.test)
    return tensor_parts((train, found.train_labels), (test, found.test_labels), train_size)


MOTIONS = Problem(
    name="motions",
    title="Motions of a watch",
    source="40 + 40 series of six channels (BasicMotions of the UEA archive, arXiv 1811.00075; a citation is asked "
    "for, no formal licence), official parts; so few that one example is 2.5 points: look at several seeds",
    networks={"series_cnn": Network(_build, "CNN")},
    recipe=recipe(BATCH_SIZE, LEARNING_RATE),
    inputs=real_inputs(CHANNELS, LENGTH),
    read=_read,
    folder=FOLDER,
    classes=CLASSES,
)
