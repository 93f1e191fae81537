# SPDX-License-Identifier: Apache-2.0
"""Trials beside their float twins, and the quadratic means that BiBench's overall metrics are."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from bittern.bench.trials.groups import grouped, twins
from bittern.bench.trials.trial import Done

COMMON, PAPER = "common", "paper"
Ratio = Callable[[Mapping[str, float], Mapping[str, float]], float | None]
"""(metrics of a trial, metrics of its twin) -> how they compare; None: they do not."""


def quadratic_mean(values: Iterable[float]) -> float:
    """sqrt(mean of squares): between the mean and the largest. Raises: ValueError without values."""
    found = list(values)
    if not found:
        raise ValueError("quadratic_mean: needs at least one value; got none")
    return math.sqrt(statistics.fmean(value * value for value in found))


def of_one_recipe(done: Sequence[Done], track: str) -> tuple[Done, ...]:
    """Those of a track; of a method that has several recipes, those of the common one.

    For figures of the paper's recipes, leave the methods' trials of the common one out of `done`.
    """
    mine = [one for one in done if one.trial.track == track]
    common = {one.trial.method for one in mine if one.trial.recipe == COMMON}
    return tuple(one for one in mine if one.trial.recipe == COMMON or one.trial.method not in common)


def pairs(done: Sequence[Done], track: str) -> dict[str, list[tuple[Done, Done]]]:
    """method -> its trials of a track, each with the twin's of the same seed, as `trials.groups` finds it."""
    groups = grouped(of_one_recipe(done, track))
    beside = twins(groups)
    found: dict[str, list[tuple[Done, Done]]] = defaultdict(list)
    for group in groups:
        if group.trial in beside:
            found[group.trial.method] += group.beside(beside[group.trial])
    return found


def beside_twins(done: Sequence[Done], track: str, ratio: Ratio) -> dict[str, dict[tuple[str, str], float]]:
    """method -> (task, network) -> mean over the seeds of `ratio`, where the trial and its twin are done."""
    found: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for method, both in pairs(done, track).items():
        for one, twin in both:
            value = ratio(one.result.metrics, twin.result.metrics)
            if value is not None:
                found[method][one.trial.task, one.trial.network].append(value)
    return {
        method: {place: statistics.fmean(values) for place, values in places.items()}
        for method, places in found.items()
    }


def complete(found: Mapping[str, Mapping[tuple[str, str], float]]) -> dict[str, Mapping[tuple[str, str], float]]:
    """Without the methods that lack a (task, network) which another has: their means would be of other things."""
    every = {place for places in found.values() for place in places}
    return {method: places for method, places in found.items() if places.keys() == every}


def share_of(metric: str) -> Ratio:
    """trial / twin; None where the twin's is not above 0."""

    def ratio(trial: Mapping[str, float], twin: Mapping[str, float]) -> float | None:
        if metric not in trial or not twin.get(metric, 0.0) > 0.0:
            return None
        return trial[metric] / twin[metric]

    return ratio


def times_less(metric: str) -> Ratio:
    """twin / trial; None where the trial's is not above 0."""

    def ratio(trial: Mapping[str, float], twin: Mapping[str, float]) -> float | None:
        if metric not in twin or not trial.get(metric, 0.0) > 0.0:
            return None
        return twin[metric] / trial[metric]

    return ratio


def means_by(places: Mapping[tuple[str, str], float], key: Callable[[str, str], str]) -> dict[str, float]:
    """Mean over the (task, network) that have the same key(task, network)."""
    groups: dict[str, list[float]] = defaultdict(list)
    for (task, network), value in places.items():
        groups[key(task, network)].append(value)
    return {name: statistics.fmean(values) for name, values in groups.items()}
