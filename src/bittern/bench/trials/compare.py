# SPDX-License-Identifier: Apache-2.0
"""What a store says about methods: means over seeds, and what is lost to the float twin.

A row is one method on one (track, task, network, recipe, epochs, settings). Its twin is the float one of the same
track, task, network, epochs, settings and seed; the difference is the mean of the differences between seeds that both
have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bittern.bench.core.seeds import Estimate
from bittern.bench.trials.trial import TWIN, Done, Trial, Value

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """A method in one setting."""

    track: str
    task: str
    network: str
    recipe: str
    epochs: int
    settings: tuple[tuple[str, Value], ...]
    method: str
    metrics: Mapping[str, Estimate]
    lost: Mapping[str, Estimate]
    """metric -> method minus twin; empty where there is no twin."""


def compare(done: Sequence[Done]) -> tuple[Row, ...]:
    """The rows in the order in which trials came, the twin first within its setting.

    done: one result a trial, as `TrialStore.done` gives them: two machines' would count a seed twice.
    """
    groups: dict[tuple[object, ...], list[Done]] = defaultdict(list)
    for one in done:
        groups[(*_setting(one.trial), one.trial.recipe, one.trial.method)].append(one)
    twins = {(*_setting(d.trial), d.trial.seed): d for d in done if d.trial.method == TWIN}
    rows = [_row(found, twins) for found in groups.values()]
    places = {key: place for place, key in enumerate(dict.fromkeys(_setting(d.trial) for d in done))}
    return tuple(sorted(rows, key=lambda row: (places[_place(row)], row.method != TWIN)))


def _setting(trial: Trial) -> tuple[object, ...]:
    return trial.track, trial.task, trial.network, trial.epochs, trial.settings


def _place(row: Row) -> tuple[object, ...]:
    return row.track, row.task, row.network, row.epochs, row.settings


def _row(found: Sequence[Done], twins: Mapping[tuple[object, ...], Done]) -> Row:
    trial = found[0].trial
    pairs = [(d.result.metrics, twins.get((*_setting(d.trial), d.trial.seed))) for d in found]
    with_twin = [(mine, twin.result.metrics) for mine, twin in pairs if twin is not None and trial.method != TWIN]
    return Row(
        *(trial.track, trial.task, trial.network, trial.recipe, trial.epochs, trial.settings, trial.method),
        metrics=_averages(found, lambda d: d.result.metrics),
        lost=_averages(with_twin, lambda two: {n: v - two[1][n] for n, v in two[0].items() if n in two[1]}),
    )


def _averages(items: Sequence[T], values: Callable[[T], Mapping[str, float]]) -> dict[str, Estimate]:
    columns: dict[str, list[float]] = defaultdict(list)
    for item in items:
        for name, value in values(item).items():
            columns[name].append(value)
    return {name: Estimate.of(column) for name, column in columns.items()}
