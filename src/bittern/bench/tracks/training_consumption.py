# SPDX-License-Identifier: Apache-2.0
"""What training costs beside the float twin's, and how much it depends on optimizer, rate and schedule.

    OM_train = sqrt( ( E[T_twin / T_method]^2 + E[std(A_twin) / std(A_method)]^2 ) / 2 )

T is the time of a step (forward, loss, backward, in turn with the twin in one process, in the layout that suits the
twin); std(A) is the standard deviation of the score over a grid of optimizers, rates and schedules. E is the mean over
tasks and networks. Above 1 a method trains faster and is less choosy than the twin.
Derivation: BiBench (arXiv 2301.11233) takes the quadratic mean of relative training time and relative sensitivity to
hyperparameters; its text was not at hand, and the formula follows that meaning.
The grid is that of BiBench's released configurations: SGD with momentum 0.9 at 0.1 and 0.01 and Adam at 0.001 and
0.0001, each with a cosine and with a tenth of the rate from half, a hundredth from three quarters of the steps on.
Differences: scores are those of the unpacked model on the held-out part of the training set, with the first seed of
the choice, and a training that diverges counts as 0. Bytes that the graph keeps for backward ("saved_bytes") stand
beside the time and do not count in the figure. Times beside other work on the machine are ratios of both.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bittern.bench.core.timing import Spread, take_turns, torch_threads
from bittern.bench.core.training import CPU, fresh
from bittern.bench.tracks.held_out import held_out_result
from bittern.bench.tracks.learning_task import SCORE, training_count
from bittern.bench.tracks.overall import COMMON, quadratic_mean
from bittern.bench.tracks.planning import cells, check_trainings
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.problems import PROBLEMS
from bittern.bench.tracks.stages import common_stages, settings_of
from bittern.bench.tracks.trainee import Trainee, trainee_of
from bittern.bench.train.memory import saved_bytes
from bittern.bench.train.run import LAYOUTS
from bittern.bench.trials.track import Choice, Plan, Track, Work
from bittern.bench.trials.trial import TWIN, Done, Result, Trial, Value
from bittern.train import Cosine, Steps, Task
from bittern.train.evaluate import classification_of
from bittern.train.recipe import OptimizerFactory
from bittern.train.schedule import Schedule
from bittern.train.source import open_source

OPTIMIZERS: dict[str, tuple[OptimizerFactory, tuple[float, ...]]] = {
    "sgd": (partial(torch.optim.SGD, momentum=0.9), (0.1, 0.01)),
    "adam": (torch.optim.Adam, (1e-3, 1e-4)),
}
SCHEDULES: dict[str, Schedule] = {"cosine": Cosine(), "steps": Steps(((0.5, 0.1), (0.75, 0.01)))}
BUDGET_S = 2.0
"""Seconds of steps of the method, and of the twin."""
SPEEDUP = "speedup"
US_PER_S = 1e6


@dataclass(frozen=True, eq=False, slots=True)
class OneStep:
    """A model in training mode with a batch."""

    model: nn.Module
    batch: tuple[Tensor, ...]
    task: Task

    def loss(self) -> Tensor:
        return self.task.measure(self.model, self.batch).loss

    def __call__(self) -> None:
        self.model.zero_grad(set_to_none=True)
        self.loss().backward()  # type: ignore[no-untyped-call]

    def saved(self) -> int:
        """Bytes for backward."""
        return saved_bytes(self.loss, [*self.model.parameters(), *self.model.buffers(), *self.batch])


class TrainingConsumption(Track):
    """Times a step of each method, and trains with each optimizer, rate and schedule. budget_s: of the steps."""

    name = "training_consumption"
    title = "Training consumption"
    question = "What does training cost beside the twin, and how choosy is it?"
    metric = SCORE

    def __init__(self, problems: Sequence[Problem] = PROBLEMS, budget_s: float = BUDGET_S) -> None:
        self.problems = tuple(problems)
        self.budget_s = budget_s

    def plan(self, choice: Choice) -> Plan:
        check_trainings(choice)
        found = cells(self.problems, choice, lambda problem: tuple(problem.networks)[:1])
        trials = [
            trial
            for problem, networks in found.found
            for network in networks
            for method in (TWIN, *choice.methods)
            for trial in self._trials(problem, network, method, choice)
        ]
        return Plan(tuple(trials), found.dropped)

    def _trials(self, problem: Problem, network: str, method: str, choice: Choice) -> Iterator[Trial]:
        """Of one method: its step, unless it is the twin, and the grid."""
        task, seed = problem.name, choice.seeds[0]
        recipe = settings_of(problem, network, COMMON, None)
        if method != TWIN:
            step = Trial(self.name, task, network, method, "", seed, 0, (("part", "step"),))
            yield step.having(**dict(problem.settings))
        for optimizer, (_, rates) in OPTIMIZERS.items():
            for rate in rates:
                for schedule in SCHEDULES:
                    settings: tuple[tuple[str, Value], ...] = (
                        ("optimizer", optimizer),
                        ("part", "grid"),
                        ("rate", rate),
                        ("schedule", schedule),
                        ("train_size", choice.train_size),
                    )
                    trial = Trial(self.name, task, network, method, COMMON, seed, choice.epochs, settings)
                    yield trial.having(**recipe)

    def alone(self, trial: Trial) -> bool:
        return trial.setting("part") == "step"

    def run(self, trial: Trial, work: Work) -> Result:
        if trial.setting("part") == "step":
            return self._step(find(self.problems, trial.task), trial, work)
        return _trained(trainee_of(self.problems, trial, work), trial, work)

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        times: dict[str, list[float]] = defaultdict(list)
        for one in done:
            if one.trial.track == self.name and SPEEDUP in one.result.metrics:
                times[one.trial.method].append(one.result.metrics[SPEEDUP])
        calm = _relative_calm([one for one in done if one.trial.track == self.name])
        return {
            method: quadratic_mean((statistics.fmean(times[method]), statistics.fmean(calm[method])))
            for method in times
            if method in calm
        }

    def _step(self, problem: Problem, trial: Trial, work: Work) -> Result:
        network = problem.network(trial.network)
        parts = problem.load(work.data, problem.recipe.batch_size)
        task = problem.task or classification_of(parts.final)
        count = training_count(parts.final)
        recipe = common_stages(problem, trial.network, count, 1, trial.seed).recipes[0]
        batch = tuple(open_source(parts.final, recipe, CPU, task).at(0))

        def step(method: str, layout: str) -> OneStep:
            chosen = None if method == TWIN else work.methods[method]
            model = fresh(lambda: network.build(chosen), trial.seed).train()
            return OneStep(*_laid_out(model, batch, layout), task)

        with torch_threads(work.threads), torch.random.fork_rng([]):
            layout = self._faster([(layout, step(TWIN, layout)) for layout in _layouts(batch)])
            mine, twin = step(trial.method, layout), step(TWIN, layout)
            times = take_turns([mine, twin], budget_s=self.budget_s)
            speedup = Spread.of([b / a for a, b in zip(*times, strict=False)])
            metrics = {
                SPEEDUP: speedup.median,
                "step_time": Spread.of(times[0]).median / US_PER_S,
                "twin_step_time": Spread.of(times[1]).median / US_PER_S,
                "saved_bytes": float(mine.saved()),
                "twin_saved_bytes": float(twin.saved()),
            }
        words = f"Batches of {len(batch[0])}, {layout}, {work.threads} thread(s)"
        return Result(metrics, notes=(f"{words}; speedup from {speedup.min:.2f} to {speedup.max:.2f}.",))

    def _faster(self, steps: Sequence[tuple[str, OneStep]]) -> str:
        """The layout in which the twin is faster."""
        if len(steps) == 1:
            return steps[0][0]
        times = take_turns([step for _, step in steps], budget_s=self.budget_s / 4)
        medians = [Spread.of(found).median for found in times]
        return steps[medians.index(min(medians))][0]


def _layouts(batch: tuple[Tensor, ...]) -> tuple[str, ...]:
    """Inputs without images in them have no choice."""
    return tuple(LAYOUTS) if batch[0].ndim == 4 else tuple(LAYOUTS)[:1]


def _laid_out(model: nn.Module, batch: tuple[Tensor, ...], layout: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    if batch[0].ndim != 4:
        return model, batch
    form = LAYOUTS[layout]
    model = model.to(memory_format=form)  # type: ignore[call-overload]  # torch's stub lacks this form
    return model, (batch[0].contiguous(memory_format=form), *batch[1:])


def _trained(trainee: Trainee, trial: Trial, work: Work) -> Result:
    """One place of the grid, scored on the held-out part."""
    problem, parts = trainee.problem, trainee.parts
    count = training_count(parts.choice)
    stages = common_stages(problem, trial.network, count, trial.epochs, trial.seed, **_changes(trial))
    return held_out_result(problem, trainee.model(trial.seed), parts, stages, trial, work)


def _changes(trial: Trial) -> dict[str, object]:
    """Fields of `Recipe` by the settings of a place of the grid."""
    optimizer, _ = OPTIMIZERS[str(trial.setting("optimizer"))]
    rate = trial.setting("rate")
    assert isinstance(rate, float)
    return {"optimizer": optimizer, "learning_rate": rate, "schedule": SCHEDULES[str(trial.setting("schedule"))]}


def _relative_calm(done: Sequence[Done]) -> dict[str, list[float]]:
    """method -> std(A_twin) / std(A_method) for each (task, network) whose grid is whole and not all alike."""
    whole = sum(len(rates) for _, rates in OPTIMIZERS.values()) * len(SCHEDULES)
    scores: dict[tuple[str, str, str, int], list[float]] = defaultdict(list)
    for one in done:
        if one.trial.setting("part") == "grid":
            key = (one.trial.method, one.trial.task, one.trial.network, one.trial.epochs)
            scores[key].append(one.result.metrics[SCORE])
    spread = {key: statistics.pstdev(found) for key, found in scores.items() if len(found) == whole}
    found: dict[str, list[float]] = defaultdict(list)
    for (method, *place), own in spread.items():
        twin = spread.get((TWIN, *place))  # type: ignore[arg-type]
        if method != TWIN and twin is not None and own > 0.0:
            found[method].append(twin / own)
    return found
