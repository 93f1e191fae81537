# SPDX-License-Identifier: Apache-2.0
"""What a trial of a method will cost, found by a few steps: a track whose trials are asked before a plan is made."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from torch import nn

from bittern._files import write_atomically
from bittern.bench.budget.halving import Cost
from bittern.bench.core.training import CPU, pack_exactly
from bittern.bench.tracks import artefacts
from bittern.bench.tracks.learning_task import training_count
from bittern.bench.tracks.overall import COMMON
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.problems import PROBLEMS
from bittern.bench.tracks.stages import common_stages, settings_of
from bittern.bench.tracks.trainee import trainee_of
from bittern.bench.trials.track import Choice, Plan, Track, Work
from bittern.bench.trials.trial import TWIN, Done, Result, Trial
from bittern.train import Recipe, evaluate, train
from bittern.train.evaluate import classification_of
from bittern.train.loop import DivergedError
from bittern.train.source import TrainingData, open_source, test_batches

LEAST_STEPS, MOST_STEPS, ENOUGH_S = 3, 30, 0.5
"""Steps that are timed: until there are enough, or they took long enough."""
STATES = 3
"""Times a model's bytes that a checkpoint has: parameters, and the two states of Adam."""


class Enough(Exception):
    """Steps were timed."""


class Measured(Track):
    """Times the parts of a trial of each method, by the common recipe."""

    name = "budget_cost"
    title = "What trials cost"
    question = "How many seconds does a training take, and to judge it?"
    metric = "epoch"
    higher_is_better = False

    def __init__(self, problems: Sequence[Problem] = PROBLEMS) -> None:
        self.problems = tuple(problems)

    def plan(self, choice: Choice) -> Plan:
        """Of a choice of one task and one network."""
        problem, network = find(self.problems, choice.tasks[0]), choice.networks[0]
        settings = settings_of(problem, network, COMMON, None)
        trials = [
            Trial(self.name, problem.name, network, method, COMMON, choice.seeds[0], 0).having(
                train_size=choice.train_size, **settings
            )
            for method in (TWIN, *choice.methods)
        ]
        return Plan(tuple(trials))

    def alone(self, trial: Trial) -> bool:
        return True

    def run(self, trial: Trial, work: Work) -> Result:
        began = time.perf_counter()
        trainee = trainee_of(self.problems, trial, work)
        problem, parts = trainee.problem, trainee.parts
        load = time.perf_counter() - began
        model, build = _timed(lambda: trainee.model(trial.seed))
        count = training_count(parts.choice)
        recipe = common_stages(problem, trial.network, count, 1, trial.seed).recipes[0]
        step = _step_seconds(model, parts.choice, recipe, problem)
        save = _save_seconds(model, work)
        peek = _count(parts.peek, problem)
        _, real = _timed(lambda: evaluate(model, parts.peek, task=problem.task))
        pack, runs = 0.0, model
        judged: Callable[..., Any] = runs
        if trainee.method is not None:
            packing, pack = _timed(lambda: pack_exactly(model.eval(), parts.inputs))
            judged = packing.packed
        _, packed = _timed(lambda: evaluate(judged, parts.peek, task=problem.task))
        source = open_source(parts.choice, recipe, CPU, problem.task or classification_of(parts.choice))
        watched = max(_count(parts.choice, problem), peek)
        epoch = source.steps_per_epoch * step + watched * real / peek + save
        judge = pack + _count(parts.final, problem) * packed / peek
        return Result(
            {"start": load + build + save, "epoch": epoch, "judge": judge, "pack": pack, "example": packed / peek},
            notes=(f"{source.steps_per_epoch} steps an epoch, {work.threads} thread(s).",),
        )

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        return {}


def cost_of(result: Result) -> Cost:
    return Cost(*(result.metrics[name] for name in ("start", "epoch", "judge")))


def _step_seconds(model: nn.Module, data: TrainingData, recipe: Recipe, problem: Problem) -> float:
    """Median of some steps of the training loop, the first left out where there are others."""
    moments = [time.perf_counter()]

    def note(step: int, loss: float) -> None:
        moments.append(time.perf_counter())
        if step >= MOST_STEPS or (step > LEAST_STEPS and moments[-1] - moments[1] >= ENOUGH_S):
            raise Enough

    with suppress(Enough, DivergedError):  # whether it learns is for trials to find
        train(model, data, recipe, task=problem.task, progress=False, on_step=note)
    seconds = [after - before for before, after in pairwise(moments)]
    return statistics.median(seconds[1:] or seconds or [0.0])


def _save_seconds(model: nn.Module, work: Work) -> float:
    """Of as many bytes as a checkpoint has."""
    folder = work.folder / "size"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    content = artefacts.state_bytes(model)
    _, seconds = _timed(lambda: write_atomically(folder / "checkpoint", [content] * STATES))
    return seconds


def _count(data: TrainingData, problem: Problem) -> int:
    """Examples of the part that is judged."""
    counts = getattr(data, "counts", None)
    if counts is not None:
        return int(counts[1])
    if hasattr(data[1], "__len__"):  # type: ignore[index]
        return len(data[1])  # type: ignore[index]
    return sum(len(batch[0]) for batch in test_batches(data, CPU, problem.task or classification_of(data)))


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    found = call()
    return found, time.perf_counter() - began
