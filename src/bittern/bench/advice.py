# SPDX-License-Identifier: Apache-2.0
"""`bittern advise`: which method and network to take within limits, how sure that is, and what comes nearest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bittern.bench.core.seeds import Difference, difference
from bittern.bench.trials.candidates import COSTS, TRAINED, Candidate, candidates, common_costs, front
from bittern.bench.trials.trial import Done

NEAREST = 3
"""Choices that are named where none fits."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A choice, and how its score stands to the best one's."""

    candidate: Candidate
    behind: Difference
    """Its score minus the best one's: at most 0."""

    @property
    def worse(self) -> bool:
        """Beyond seed noise; False also where one seed tells nothing of that noise."""
        return self.behind.beyond_noise


@dataclass(frozen=True, slots=True)
class Near:
    """A choice beyond a limit."""

    candidate: Candidate
    times: Mapping[str, float]
    """Cost -> mean over limit, for the limits that it breaks."""


@dataclass(frozen=True, slots=True)
class Advice:
    """For one task.

    choices: within the limits, by means, and not beaten in the score and in all of `costs` by another; best score
    first. ties: others within the limits whose scores the seeds do not tell apart from the best one's.
    nearest: where nothing fits, what breaks the limits least. unmeasured: those that lack a cost with a limit.
    """

    task: str
    costs: tuple[str, ...]
    choices: tuple[Beside, ...]
    ties: tuple[Beside, ...]
    nearest: tuple[Near, ...]
    unmeasured: tuple[Candidate, ...]


def advise(done: Sequence[Done], limits: Mapping[str, float], task: str | None = None) -> list[Advice]:
    """For `task`, or for every task that was trained on, in the order of their first trials.

    limits: the most of a cost of `COSTS`, in bytes, operations, seconds. Without limits all costs count that every
    choice for the task has.

    Raises: ValueError for a limit that is not a finite number above 0, or where nothing was trained for the task.
    """
    for name, limit in limits.items():
        if name not in COSTS or not (math.isfinite(limit) and limit > 0):
            raise ValueError(f"advise: limits are finite numbers above 0 of {', '.join(COSTS)}; got {name} {limit}")
    found: dict[str, list[Candidate]] = {}
    for one in candidates(done):
        found.setdefault(one.trained.trial.task, []).append(one)
    if not found:
        raise ValueError(f"advise: no trial of {TRAINED} is done; run some: bittern bench run")
    if task is not None and task not in found:
        raise ValueError(f"advise: nothing was trained for the task {task}; there are {', '.join(found)}")
    return [_advice(name, found[name], limits) for name in (found if task is None else [task])]


def _advice(task: str, found: Sequence[Candidate], limits: Mapping[str, float]) -> Advice:
    costs = tuple(limits) or common_costs(found)
    measured = [one for one in found if all(cost in one.costs for cost in limits)]
    fitting = [one for one in measured if not _times(one, limits)]
    best = front(fitting, costs)
    first = best[0] if best else None
    beside = [] if first is None else [Beside(one, difference(one.score, first.score)) for one in fitting]
    by_candidate = {id(one.candidate): one for one in beside}
    ties = [one for one in beside if one.candidate not in best and not one.worse]
    nearest = [] if fitting else sorted((Near(one, _times(one, limits)) for one in measured), key=_distance)
    return Advice(
        task=task,
        costs=costs,
        choices=tuple(by_candidate[id(one)] for one in best),
        ties=tuple(sorted(ties, key=lambda one: -one.candidate.score.mean)),
        nearest=tuple(nearest[:NEAREST]),
        unmeasured=tuple(one for one in found if one not in measured),
    )


def _times(one: Candidate, limits: Mapping[str, float]) -> dict[str, float]:
    """Cost -> mean over limit, where that is above 1."""
    shares = {cost: one.costs[cost].estimate.mean / limit for cost, limit in limits.items()}
    return {cost: share for cost, share in shares.items() if share > 1}


def _distance(near: Near) -> tuple[float, float]:
    return max(near.times.values()), -near.candidate.score.mean
