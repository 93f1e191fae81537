# SPDX-License-Identifier: Apache-2.0
"""A training that is judged by the held-out part, for what is chosen by scores."""

from __future__ import annotations

from torch import nn

from bittern.bench.core.training import fit
from bittern.bench.tracks.learning_task import CHECKPOINT_STEPS, SCORE
from bittern.bench.tracks.parts import Parts
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.stages import Stages
from bittern.bench.trials.track import Work
from bittern.bench.trials.trial import Result, Trial
from bittern.train import evaluate
from bittern.train.loop import DivergedError


def held_out_result(
    problem: Problem, model: nn.Module, parts: Parts, stages: Stages, trial: Trial, work: Work
) -> Result:
    """Train a fresh model, and score it unpacked. One that diverges counts as 0."""
    try:
        rows = fit(
            model,
            parts.choice,
            stages.plan,
            folder=work.folder,
            task=problem.task,
            on_epoch=lambda row: work.on_progress(row.epoch / trial.epochs, f"epoch {row.epoch} of {trial.epochs}"),
            checkpoint_steps=CHECKPOINT_STEPS,
        )
    except DivergedError as error:
        notes = (*stages.notes, f"Diverged, which counts as 0: {error.what}.")
        return Result({SCORE: 0.0, "diverged": 1.0}, notes=notes)
    score = evaluate(model, parts.choice, task=problem.task).score
    curves = {
        "train_loss": tuple(row.train_loss for row in rows),
        "held_out_score": tuple(row.test_score for row in rows),
    }
    return Result({SCORE: score, "diverged": 0.0}, curves, notes=stages.notes)
