# SPDX-License-Identifier: Apache-2.0
"""Trials that differ by their seed alone, and the float twins that they stand beside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bittern.bench.core.seeds import Estimate, paired
from bittern.bench.trials.trial import TWIN, Done, Trial


@dataclass(frozen=True, eq=False)
class Group:
    """Of at least one trial.

    trial: the first of them, which says all that they have in common. done: in the order of their seeds; of a trial
    that several machines have done, one for each of them.
    """

    trial: Trial
    done: tuple[Done, ...]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Names that any of them has, in their order."""
        return tuple(dict.fromkeys(name for one in self.done for name in one.result.metrics))

    def by_seed(self, metric: str) -> dict[int, float]:
        """seed -> value, for those that have it; of several machines the mean."""
        found: dict[int, list[float]] = defaultdict(list)
        for one in self.done:
            if metric in one.result.metrics:
                found[one.trial.seed].append(one.result.metrics[metric])
        return {seed: sum(values) / len(values) for seed, values in found.items()}

    def estimate(self, metric: str) -> Estimate | None:
        """Over the seeds; None where no trial has the metric."""
        values = tuple(self.by_seed(metric).values())
        return Estimate.of(values) if values else None

    def gap(self, twin: Group, metric: str) -> Estimate | None:
        """Of this group's metric minus the twin's, seed by seed; None where they have no seed in common."""
        return paired(self.by_seed(metric), twin.by_seed(metric))

    def beside(self, twin: Group) -> Iterator[tuple[Done, Done]]:
        """Its trials, each with the twin's of the same seed; without those whose seed the twin lacks."""
        theirs: dict[int, Done] = {}
        for one in twin.done:
            theirs.setdefault(one.trial.seed, one)
        yield from ((one, theirs[one.trial.seed]) for one in self.done if one.trial.seed in theirs)

    def ratio(self, twin: Group, metric: str) -> Estimate | None:
        """Of this group's metric to the twin's, seed by seed; None where no seed has both, or a twin's is 0."""
        ours, theirs = self.by_seed(metric), twin.by_seed(metric)
        common = sorted(ours.keys() & theirs.keys())
        if not common or any(theirs[seed] == 0 for seed in common):
            return None
        return Estimate.of([ours[seed] / theirs[seed] for seed in common])


def grouped(done: Iterable[Done]) -> list[Group]:
    """In the order in which their first trials came."""
    found: dict[Trial, list[Done]] = defaultdict(list)
    for one in done:
        found[replace(one.trial, seed=0)].append(one)
    groups = []
    for members in found.values():
        ordered = tuple(sorted(members, key=lambda one: one.trial.seed))
        groups.append(Group(ordered[0].trial, ordered))
    return groups


def twins(groups: Sequence[Group]) -> Mapping[Trial, Group]:
    """trial of a group -> its float twin: that of the same track, task, network, epochs and settings.

    The twin's recipe is the common one, since no paper says how the twin trains; where it was trained by several, the
    group's own comes first.
    """
    found: dict[Trial, dict[str, Group]] = defaultdict(dict)
    for group in groups:
        if group.trial.method == TWIN:
            found[group.trial.place][group.trial.recipe] = group
    beside = {}
    for group in groups:
        recipes = found.get(group.trial.place, {})
        if group.trial.method != TWIN and recipes:
            beside[group.trial] = recipes.get(group.trial.recipe) or next(iter(recipes.values()))
    return beside
