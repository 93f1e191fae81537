# SPDX-License-Identifier: Apache-2.0
"""What page.js draws, as one JSON value: numbers, and texts where readers are told them."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bittern.bench.core.seeds import Estimate
from bittern.bench.page.looks import looks
from bittern.bench.page.metrics import count_text, estimate_text, points_text
from bittern.bench.page.view import SYMBOLS, View, color, symbol
from bittern.bench.tracks.stages import COMMON_RECIPE
from bittern.bench.trials.candidates import COSTS, SCORE, Candidate
from bittern.bench.trials.groups import Group
from bittern.bench.trials.trial import AUTHORS_RECIPE, TWIN, Trial

RADAR_AXES = 3
"""A polygon needs so many; below, the page draws bars."""
CURVE_VALUES = 60_000
"""Numbers of all curves together; longer ones are thinned, so that the page stays below its 3 MB."""
SPLITS = ("train", "test", "held_out")
"""Beginnings of the names of curves."""
LEAST_POINTS = 12
"""Of a thinned curve."""
DIGITS = 4
"""Significant, of a curve."""


def chart_data(view: View) -> dict[str, Any]:
    return {
        "methods": [{"name": name, "color": color(view, name), "symbol": symbol(view, name)} for name in view.methods],
        "overall": overall(view),
        "tradeoffs": tradeoffs(view),
        "curves": curves(view),
        "looks": looks(view),
    }


def overall(view: View) -> dict[str, Any] | None:
    """BiBench's metric of each track that has one, for each method; None where no track has.

    companions: figures that stand beside an axis in the table, and are not drawn.
    """
    found = [(track, dict(track.overall(view.done))) for track in view.tracks]
    found = [(track, values) for track, values in found if values]
    if not found:
        return None
    axes = [
        {"title": track.title, "short": _in_lines(track.title), "max": round(max(1.0, *values.values()), 6)}
        for track, values in found
    ]
    beside = [(place, track.companion(view.done)) for place, (track, _) in enumerate(found)]
    companions = [(place, one) for place, one in beside if one is not None and one.values]
    rows = []
    for place, name in enumerate(view.methods):
        numbers = [1.0 if name == TWIN else values.get(name) for _, values in found]
        texts = [_overall_text(number) for number in numbers]
        others = [1.0 if name == TWIN else one.values.get(name) for _, one in companions]
        if any(number is not None for number in numbers):
            rows.append(
                {
                    "method": place,
                    "values": [_rounded(number) for number in numbers],
                    "texts": texts,
                    "companions": [[_rounded(number), _overall_text(number)] for number in others],
                }
            )
    told = [{"axis": place, "title": one.title, "why": one.why} for place, one in companions]
    return {"axes": axes, "companions": told, "rows": rows}


def _overall_text(number: float | None) -> str:
    return "not measured" if number is None else f"{number:.3g}"


def tradeoffs(view: View) -> dict[str, Any] | None:
    """Candidates by tasks; None where nothing was trained."""
    by_task: dict[str, list[Candidate]] = defaultdict(list)
    for one in view.candidates:
        by_task[one.trained.trial.task].append(one)
    if not by_task:
        return None
    networks = sorted({one.trained.trial.network for one in view.candidates})
    return {
        "metric": SCORE,
        "networks": [{"name": name, "symbol": SYMBOLS[place % len(SYMBOLS)]} for place, name in enumerate(networks)],
        "tasks": [
            {"name": task, "points": [_point(view, networks, one) for one in found]} for task, found in by_task.items()
        ],
    }


def _point(view: View, networks: Sequence[str], one: Candidate) -> dict[str, Any]:
    trial = one.trained.trial
    gap = [] if one.gap is None else [f"to the float twin: {points_text(one.gap)} points"]
    costs = [f"{cost}: {cost_text(cost, found.estimate)}" for cost, found in one.costs.items()]
    seeds = f"{one.score.count} seed{'s' if one.score.count > 1 else ''}"
    return {
        "method": view.methods.index(trial.method),
        "network": networks.index(trial.network),
        "accuracy": _numbers(one.score),
        **{cost: _numbers(found.estimate) for cost, found in one.costs.items()},
        "lines": [one.name, f"{SCORE}: {estimate_text(SCORE, one.score)} ({seeds})", *gap, *costs],
    }


def cost_text(cost: str, estimate: Estimate) -> str:
    if cost == "ops":
        return count_text(estimate.mean)
    return estimate_text(COSTS[cost][1], estimate)


def curves(view: View) -> list[dict[str, Any]]:
    """Training and test curves of all methods that trained alike."""
    by_cell: dict[Trial, list[Group]] = defaultdict(list)
    for group in view.groups:
        if any(one.result.curves for one in group.done):
            by_cell[replace(group.trial.without(AUTHORS_RECIPE), method="", seed=0)].append(group)
    for trial, groups in by_cell.items():
        if all(group.trial.method != TWIN for group in groups):
            # no paper says how the twin trains: beside a paper's recipe stands that of the common one
            others = dict.fromkeys(twin.trial for group in groups if (twin := view.twins.get(group.trial)))
            by_cell[trial] = [*(group for group in view.groups if group.trial in others), *groups]
    count = sum(len(group.done[0].result.curves) for groups in by_cell.values() for group in groups)
    most = max(LEAST_POINTS, CURVE_VALUES // (3 * max(count, 1)))
    return [
        {"label": _cell_label(view, trial), "quantities": _quantities(view, groups, most)}
        for trial, groups in by_cell.items()
    ]


def _quantities(view: View, groups: Sequence[Group], most: int) -> dict[str, Any]:
    """ "loss", and "accuracy", which stands for whatever score the task has."""
    found: dict[str, Any] = {}
    for group in groups:
        for name in dict.fromkeys(name for one in group.done for name in one.result.curves):
            split = next((split for split in SPLITS if name.startswith(f"{split}_")), None)
            if split is None:
                continue
            what = name.removeprefix(f"{split}_")
            quantity = found.setdefault(
                "loss" if what == "loss" else "accuracy", {"title": what, "share": what != "loss", "lines": []}
            )
            place = view.methods.index(group.trial.method)
            key = f"{place} {group.trial.recipe} {split} {dict(group.trial.settings).get(AUTHORS_RECIPE, '')}"
            quantity["lines"].append(
                {"method": place, "split": split.replace("_", " "), "key": key, **_line(group, name, most)}
            )
    return found


def _line(group: Group, name: str, most: int) -> dict[str, Any]:
    """Mean, least and most over seeds at each epoch that all of them have, at no more than `most` epochs."""
    every = [one.result.curves[name] for one in group.done if name in one.result.curves]
    length = min(len(values) for values in every)
    epochs = range(length) if length <= most else [round(i * (length - 1) / (most - 1)) for i in range(most)]
    columns = [[values[i] for values in every] for i in epochs]
    return {
        "epochs": [i + 1 for i in epochs],
        "mean": [_rounded(statistics.fmean(column)) for column in columns],
        "low": [_rounded(min(column)) for column in columns],
        "high": [_rounded(max(column)) for column in columns],
    }


def _cell_label(view: View, trial: Trial) -> str:
    parts = [trial.task, trial.network, *([] if trial.recipe in ("", "common") else [f"recipe: {trial.recipe}"])]
    parts += [f"{name} {value}" for name, value in trial.settings if value is not None and name != COMMON_RECIPE]
    return f"{view.title(trial.track)}: {', '.join(parts)}"


def _numbers(estimate: Estimate) -> list[float | None]:
    return [_rounded(estimate.mean, 9), _rounded(estimate.shown_std)]


def _rounded(value: float | None, digits: int = DIGITS) -> float | None:
    """To significant digits."""
    if value is None or value == 0:
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def _in_lines(title: str) -> str:
    """Broken in two at the space that is nearest to the middle."""
    spaces = [place for place, letter in enumerate(title) if letter == " "]
    if not spaces or len(title) < 12:
        return title
    place = min(spaces, key=lambda one: abs(one - len(title) / 2))
    return f"{title[:place]}\n{title[place + 1 :]}"
