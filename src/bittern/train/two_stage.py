# SPDX-License-Identifier: Apache-2.0
"""ReActNet's training in two stages: binary inputs first, then binary weights too."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

from torch import nn

from bittern.train.checkpoint import FILE_NAME, planned_epochs
from bittern.train.history import History
from bittern.train.loop import OnEpoch, OnStep, train
from bittern.train.real_weights import use_real_weights
from bittern.train.recipe import Recipe
from bittern.train.source import TrainingData
from bittern.train.tasks.task import Task


class TwoStageHistory(NamedTuple):
    first: History
    """Binary inputs, real weights."""
    second: History
    """All binary."""


def train_two_stage(
    model: nn.Module,
    data: TrainingData,
    first: Recipe,
    second: Recipe,
    *,
    folder: str | Path | None = None,
    resume: bool = False,
    teacher: nn.Module | None = None,
    task: Task | None = None,
    checkpoint_steps: int | None = None,
    progress: bool = True,
    watch_weights: bool = False,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> TwoStageHistory:
    """Train `model` in place: stage 1 with its methods' binary inputs and real weights, stage 2 all binary.

    Stage 2 starts from the weights of stage 1, loaded strictly: every name, shape and dtype must be there. Each stage
    has its own recipe and its own subfolder of `folder`, "stage1" and "stage2". In stage 1 the weights of low-bit
    layers are real and decay by `weight_decay` like all others: ReActNet's 1e-5 in the first and 0 in the second stage
    are `weight_decay` of the two recipes. watch_weights: in the second stage, whose weights are those to watch. The
    other arguments are those of `train`. A resumed run may have more epochs
    in the second stage, and in the first as long as the second has not begun.

    Raises: as `train`; ValueError when the model has no low-bit layer, and for more epochs of a first stage from whose
    end the second began.

    Source: 2003.03488, section 5, after 1904.05868.
    """
    places = [None if folder is None else Path(folder) / name for name in ("stage1", "stage2")]
    began_second = places[1] is not None and (places[1] / FILE_NAME).exists()
    if began_second and not resume:
        raise FileExistsError(f"train_two_stage: {places[1]} holds a checkpoint; continue it with resume=True")
    if began_second:
        _check_first(places[0], first)
    real = use_real_weights(copy.deepcopy(model))
    history = train(
        real,
        data,
        first,
        folder=places[0],
        resume=resume,
        teacher=teacher,
        task=task,
        checkpoint_steps=checkpoint_steps,
        progress=progress,
        on_step=on_step,
        on_epoch=on_epoch,
    )
    model.load_state_dict(real.state_dict(), strict=True)
    return TwoStageHistory(
        history,
        train(
            model,
            data,
            second,
            folder=places[1],
            resume=began_second,
            teacher=teacher,
            task=task,
            checkpoint_steps=checkpoint_steps,
            progress=progress,
            watch_weights=watch_weights,
            on_step=on_step,
            on_epoch=on_epoch,
        ),
    )


def _check_first(place: Path | None, first: Recipe) -> None:
    """Refuse to train a first stage further whose weights the second has left behind. Raises: ValueError."""
    if place is None or not (place / FILE_NAME).exists():
        return
    planned = planned_epochs(place / FILE_NAME)
    if planned is not None and first.epochs > planned:
        raise ValueError(
            f"train_two_stage: the second stage began after {planned} epochs of the first in {place}; got "
            f"first.epochs={first.epochs}; leave them, and give the second stage more"
        )
