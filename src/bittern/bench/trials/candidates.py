# SPDX-License-Identifier: Apache-2.0
"""What somebody could deploy, as the trials found it: its score beside its bytes, operations and latency."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bittern.bench.core.pareto import beats
from bittern.bench.core.seeds import Estimate
from bittern.bench.trials.groups import Group, grouped, twins
from bittern.bench.trials.trial import Done

TRAINED = "learning_task"
"""The track whose trials train a network and judge it by its test set; others that need such trainings ask it."""
SCORE = "score"
COSTS = {
    "bytes": (TRAINED, "packed_bytes"),
    "ops": ("theoretical_complexity", "ops"),
    "latency": ("hardware_inference", "latency"),
}
"""Cost -> track and metric that say it, in bytes, operations, seconds for one input; less is better."""
LAYERS = "layers.json"


@dataclass(frozen=True, eq=False, slots=True)
class Cost:
    """What one thing costs, and the trials that say so."""

    estimate: Estimate
    largest: float
    """Of all trials."""
    done: tuple[Done, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A network, trained by a method for a task.

    trained: its trainings. score: of the packed network on the test set, in [0, 1]. gap: to the float twin, seed by
    seed; None for the twin, and where there is none. costs: by the names of `COSTS`, those that were measured.
    """

    trained: Group
    score: Estimate
    gap: Estimate | None
    costs: Mapping[str, Cost]

    @property
    def name(self) -> str:
        """ "ReCU, resnet20_cifar"; the recipe too, where it is not the common one."""
        trial = self.trained.trial
        return ", ".join([trial.method, trial.network, *([trial.recipe] if trial.recipe not in ("", "common") else [])])

    @property
    def bits(self) -> float | None:
        """Stored, for each parameter, all layers and everything else in the file counted; None where that is not known.

        8 · bytes / parameters, which the first trial's layers.json counts.
        """
        file = self.trained.done[0].result.artefacts.get(LAYERS)
        if file is None or "bytes" not in self.costs:
            return None
        names = ("binary_params", "float_params", "code_params")
        parameters = sum(layer.get(name, 0) for layer in json.loads(file) for name in names)
        return 8 * self.costs["bytes"].estimate.mean / parameters if parameters else None

    @property
    def evidence(self) -> tuple[Done, ...]:
        """The trainings, then what else tells of costs."""
        others = (one for cost in self.costs.values() for one in cost.done)
        return tuple({one.trial.key: one for one in (*self.trained.done, *others)}.values())


def candidates(done: Sequence[Done]) -> list[Candidate]:
    """Of all trainings."""
    groups = grouped(done)
    beside = twins(groups)
    by_subject: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group in groups:
        by_subject[_subject(group)].append(group)
    found = []
    for group in groups:
        score = group.estimate(SCORE) if group.trial.track == TRAINED else None
        if score is None:
            continue
        twin = beside.get(group.trial)
        gap = None if twin is None else group.gap(twin, SCORE)
        found.append(Candidate(group, score, gap, _costs(group, by_subject[_subject(group)])))
    return found


def common_costs(found: Sequence[Candidate]) -> tuple[str, ...]:
    """Those that all of them have."""
    return tuple(cost for cost in COSTS if all(cost in one.costs for one in found))


def front(found: Iterable[Candidate], costs: Sequence[str]) -> list[Candidate]:
    """Those that no other beats: none is at least as good in the score and in every one of `costs`, and better in one.

    By means alone. Whoever lacks one of the costs is left out. In the order of the scores, best first.
    """
    whole = [one for one in found if all(cost in one.costs for cost in costs)]

    def figures(one: Candidate) -> tuple[float, ...]:
        return (-one.score.mean, *(one.costs[cost].estimate.mean for cost in costs))

    return sorted((one for one in whole if not any(beats(figures(o), figures(one)) for o in whole)), key=figures)


def _subject(group: Group) -> tuple[str, str, str]:
    return group.trial.task, group.trial.network, group.trial.method


def _costs(trained: Group, others: Sequence[Group]) -> dict[str, Cost]:
    """Of a training: by itself where it says so, else by another track's trials of the same network and method."""
    found = {}
    for cost, (track, metric) in COSTS.items():
        asked = [trained] if track == TRAINED else [group for group in others if group.trial.track == track]
        group = next((group for group in asked if metric in group.metrics), None)
        estimate = None if group is None else group.estimate(metric)
        if group is not None and estimate is not None:
            done = tuple(one for one in group.done if metric in one.result.metrics)
            found[cost] = Cost(estimate, max(one.result.metrics[metric] for one in done), done)
    return found
