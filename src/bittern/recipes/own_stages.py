# SPDX-License-Identifier: Apache-2.0
"""Trainings in stages with names, of methods whose recipe is more than rates and decays, without a given teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from bittern import binary
from bittern.binary.biper import use_real_waves
from bittern.recipes.gated_papers import real_to_binary_stages
from bittern.recipes.later_papers import BIPER
from bittern.recipes.record import Decay, PaperRecipe
from bittern.train.added.weights import WaveRegularizer
from bittern.train.stages import Stage

OF_ONE_RECIPE = 2
"""So many of a record's first differences say what a single recipe lacks, and its stages have."""


def biper_stages(
    *, epochs: int = BIPER.epochs, batch_size: int = BIPER.batch_size, seed: int = 0
) -> tuple[Stage, Stage]:
    """BiPer's two stages for `train.train_stages` and a network of `binary.BiPer`, without a teacher.

        stage      weights                          rate      decay     added loss
        waves      sin(20 W), real                  0.021     1.6e-3    0.037 of waves
        binary     signs; starts from "waves"       3.7e-3    1.6e-4    0.0468 of waves

    epochs: of each stage; the authors' first has 600, the second 300.
    Source: arXiv 2404.01278; edmav4/BiPer README.md.
    """
    binary_ = BIPER.scaled(epochs=epochs, batch_size=batch_size)
    first = dataclasses.replace(
        binary_, learning_rate=0.021, decay=Decay(1.6e-3, 1.6e-3, 1.6e-3), losses=(WaveRegularizer(weight=0.037),)
    )
    return (
        Stage(name="waves", recipe=first.recipe(seed=seed), operands=use_real_waves),
        Stage(name="binary", recipe=binary_.recipe(seed=seed), start="waves"),
    )


class OwnStages(NamedTuple):
    """stages: for `train.train_stages`. differences: from the authors' training, one sentence for each."""

    stages: tuple[Stage, ...]
    differences: tuple[str, ...]


def own_stages(
    record: PaperRecipe, *, seed: int = 0, points: Callable[[], tuple[str, ...]] = tuple
) -> OwnStages | None:
    """The stages of a record whose paper trains in such: Real-to-Binary's, each of which teaches the next, and BiPer's.

    record: scaled or not. points: gives the modules at whose outputs attention is matched, and is asked where a method
    has such a loss. -> None for a record that `record.stages()` tells whole.
    """
    size = {"epochs": record.epochs, "batch_size": record.batch_size, "seed": seed}
    if record.method is binary.RealToBinary:
        first = (
            "Only Larq's code was read, where a given ResNet-18 with real weights teaches the first stage; here none."
        )
        stages = real_to_binary_stages(**size, points=points(), teacher_points=None)
        return OwnStages(stages, (first, *record.differences[OF_ONE_RECIPE:]))
    if record.method is binary.BiPer:
        first = "The authors' first stage has 600 epochs, and the second 300."
        return OwnStages(biper_stages(**size), (first, *record.differences[OF_ONE_RECIPE:]))
    return None
