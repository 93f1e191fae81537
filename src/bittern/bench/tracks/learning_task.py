# SPDX-License-Identifier: Apache-2.0
"""How much of its accuracy a network keeps on different tasks.

    OM_task = sqrt( mean over tasks of ( E[A_method / A_twin] )^2 )

A is the score on the test set, of the packed model, of the float twin of the model itself; E is the mean over the
seeds (and over networks, where a task has several) of the ratio between trials of the same seed. The figure is 1 for a
method that loses nothing. A quadratic mean lies above the mean: a task on which a method does well counts more than one
on which it does badly.
Derivation: BiBench (arXiv 2301.11233) names its overall metric of this track the quadratic mean of the accuracies
relative to the full-precision counterparts over tasks. The paper's text was not at hand; the formula follows that
meaning, so read it beside the raw accuracies, which every trial has.
Differences: BiBench's tasks are ImageNet, COCO, GLUE and others, trained for hundreds of epochs and with the best of
two optimizers; its twins share the methods' recipe.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from bittern.bench.core.training import fit, pack_exactly
from bittern.bench.tracks import artefacts
from bittern.bench.tracks.overall import beside_twins, complete, means_by, quadratic_mean, share_of
from bittern.bench.tracks.parts import PEEK, Parts
from bittern.bench.tracks.planning import cells, check_trainings, trainings, without_papers
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.problems import PROBLEMS
from bittern.bench.tracks.stages import stages_of
from bittern.bench.tracks.trainee import trainee_of
from bittern.bench.tracks.transfer_points import transfer_points
from bittern.bench.trials.track import Choice, Plan, Track, Work
from bittern.bench.trials.trial import Done, Result, Trial
from bittern.nn import ConstantInputWarning
from bittern.nn.summary import summary
from bittern.train import Epoch, evaluate
from bittern.train.source import TrainingData

SCORE = "score"
"""Of every problem, whatever its metric is called: a share, higher is better."""
CHECKPOINT_STEPS = 200
"""At most so many steps are lost to a kill."""


class LearningTask(Track):
    """Trains each method on each problem. problems: those that a choice may ask for."""

    name = "learning_task"
    title = "Learning task"
    question = "How much of the float twin's accuracy is left, on which task?"
    metric = SCORE

    def __init__(self, problems: Sequence[Problem] = PROBLEMS) -> None:
        self.problems = tuple(problems)

    def plan(self, choice: Choice) -> Plan:
        check_trainings(choice)
        found = cells(self.problems, choice, lambda problem: tuple(problem.networks)[:1])
        return Plan(tuple(trainings(self.name, found, choice)), (*found.dropped, *without_papers(choice)))

    def run(self, trial: Trial, work: Work) -> Result:
        trainee = trainee_of(self.problems, trial, work)
        problem, method, parts = trainee.problem, trainee.method, trainee.parts
        count = training_count(parts.final)
        model = trainee.model(trial.seed)
        points = partial(transfer_points, model, parts.inputs[:1])
        stages = stages_of(problem, trial, method, parts.final, count, points)

        def on_epoch(epoch: Epoch) -> None:
            work.on_progress(epoch.epoch / trial.epochs, f"{trial}: epoch {epoch.epoch} of {trial.epochs}")

        rows = fit(
            model,
            parts.peek,
            stages.plan,
            folder=work.folder,
            task=problem.task,
            on_epoch=on_epoch,
            checkpoint_steps=CHECKPOINT_STEPS,
        )
        notes = (*stages.notes, *(trainee.network.about if method is not None else ()))
        return _result(problem, parts, model, rows, method is None, notes)

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        return overall_task(done, self.name)


def overall_task(done: Sequence[Done], track: str = LearningTask.name) -> Mapping[str, float]:
    """OM_task of every method that has all tasks."""
    found = complete(beside_twins(done, track, share_of(SCORE)))
    return {
        method: quadratic_mean(means_by(places, lambda task, network: task).values())
        for method, places in found.items()
    }


def training_count(data: TrainingData) -> int:
    """Training examples."""
    counts = getattr(data, "counts", None)
    return counts[0] if counts is not None else len(data[0])  # type: ignore[index,arg-type]


def _result(
    problem: Problem, parts: Parts, model: nn.Module, rows: Sequence[Epoch], is_twin: bool, notes: tuple[str, ...]
) -> Result:
    """What a trained model is worth, packed unless it is the twin."""
    report = summary(model, parts.inputs[:1])
    files = {artefacts.LAYERS: artefacts.layers_json(report)}
    metrics = {"train_score": rows[-1].train_score}
    runs: Callable[[Tensor], Any] = model
    if is_twin:
        metrics["packed_bytes"] = float(report.bytes)
        files[artefacts.STATE] = artefacts.state_bytes(model)
        notes = (*notes, "Bytes of the float twin are those of its parameters.")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)  # a note says it
            packing = pack_exactly(model, parts.inputs)
        runs = packing.packed
        metrics |= {"packed_bytes": float(len(packing.file)), "exact": float(packing.report.exact)}
        files[artefacts.PACKED] = packing.file
        still = packing.report.constant_inputs
        notes = (*notes, *((f"The signs at {', '.join(still)} are the same whatever comes in.",) if still else ()))
    noted = artefacts.Noted(runs)
    metrics[SCORE] = evaluate(noted, parts.final, task=problem.task).score
    metrics |= {problem.metric: metrics[SCORE], f"train_{problem.metric}": metrics["train_score"]}
    if artefacts.is_classification(problem):
        files |= artefacts.of_classification(problem, parts, noted.outputs)
    columns = [row.named() for row in rows]
    names = tuple(f"{part}_{what}" for part in ("train", "test") for what in ("loss", problem.metric))
    notes = (*notes, f"The test curve is of the first {PEEK} test examples at most.")
    return Result(metrics, {name: tuple(column[name] for column in columns) for name in names}, files, notes)
