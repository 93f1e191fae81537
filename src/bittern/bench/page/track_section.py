# SPDX-License-Identifier: Apache-2.0
"""One section of the page for each track: its question, and a table of what its trials found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from bittern.bench.page import published
from bittern.bench.page.metrics import estimate_text, is_share, points_text, severity_of, times_text, title
from bittern.bench.page.tables import MISSING, Cell, Column, table, trial_links, words
from bittern.bench.page.view import View
from bittern.bench.tracks.stages import COMMON_RECIPE
from bittern.bench.trials.candidates import TRAINED
from bittern.bench.trials.groups import Group
from bittern.bench.trials.trial import AUTHORS_RECIPE, TWIN, Value

DIGESTS = (COMMON_RECIPE, AUTHORS_RECIPE)
"""Settings that readers are spared while the recipes' names say enough."""
MOST_METRICS = 18
"""Columns of a track's table beside its own metric; the table of trials has all."""


def track_sections(view: View) -> str:
    """Of all tracks that have trials, in the order of the view."""
    names = dict.fromkeys(group.trial.track for group in view.groups)
    return "\n".join(_section(view, name) for name in names)


def _section(view: View, name: str) -> str:
    groups = [group for group in view.groups if group.trial.track == name]
    track = next((one for one in view.tracks if one.name == name), None)
    facts = [_facts(group) for group in groups]
    varied = [fact for fact in facts[0] if any(one.get(fact) != facts[0][fact] for one in facts)]
    varied += [fact for one in facts for fact in one if fact not in facts[0] and fact not in varied]
    varied = _needed(groups, facts, list(dict.fromkeys(varied)))
    told = [(fact, value) for fact, value in facts[0].items() if fact not in (*varied, *DIGESTS)]
    same = [f"{fact} {value}" for fact, value in told if value not in ("", None)]
    question = "" if track is None else escape(track.question)
    alike = f" All of them: {escape(', '.join(same))}." if same else ""
    metrics = _metrics(groups, None if track is None else track.metric)
    shown, more = metrics[: MOST_METRICS + 1], metrics[MOST_METRICS + 1 :]
    rest = f" The table of trials has {len(more)} more: {escape(', '.join(map(title, more[:12])))}" if more else ""
    rest += ("." if len(more) <= 12 else ", …") if more else ""
    key = f"track-{_slug(name)}"
    return f"""<section aria-labelledby="{key}">
<h2 id="{key}">{escape(view.title(name))}</h2>
<p>{question}{alike}{rest}</p>
{_table(view, key, groups, facts, varied, shown)}
{published.section(view, groups) if name == TRAINED else ""}</section>"""


def _needed(groups: Sequence[Group], facts: Sequence[Mapping[str, Value]], varied: Sequence[str]) -> list[str]:
    """Without digests of recipes, unless nothing else tells two groups apart."""
    names = [name for name in varied if name not in DIGESTS]
    told = {
        (group.trial.method, *(fact.get(name) for name in names)) for group, fact in zip(groups, facts, strict=True)
    }
    return names if len(told) == len(groups) else list(varied)


def _facts(group: Group) -> dict[str, Value]:
    """What tells groups of one track apart, beside the method."""
    trial = group.trial
    epochs = {"epochs": trial.epochs} if trial.epochs else {}
    recipe = {"recipe": trial.recipe} if trial.recipe else {}
    return {"task": trial.task, "network": trial.network, **recipe, **epochs, **dict(trial.settings)}


def _metrics(groups: Sequence[Group], main: str | None) -> list[str]:
    """The track's own first; without single severities, and without shares that are one before them by another name."""
    names = dict.fromkeys(name for group in groups for name in group.metrics if severity_of(name) is None)
    ordered = [*([main] if main in names else []), *(name for name in names if name != main)]
    kept: list[str] = []
    told: set[tuple[tuple[int, float | None], ...]] = set()
    for name in ordered:
        values = tuple(
            (place, one.result.metrics.get(name)) for place, group in enumerate(groups) for one in group.done
        )
        if is_share(name) and any(_says_no_more(values, other) for other in told):
            continue
        told.add(values)
        kept.append(name)
    return kept


def _says_no_more(values: Sequence[tuple[int, float | None]], other: Sequence[tuple[int, float | None]]) -> bool:
    """Whether each value that is there equals the other's."""
    return all(value is None or value == told for (_, value), (_, told) in zip(values, other, strict=True))


def _table(
    view: View,
    key: str,
    groups: Sequence[Group],
    facts: Sequence[Mapping[str, Value]],
    varied: Sequence[str],
    metrics: Sequence[str],
) -> str:
    main, others = metrics[:1], metrics[1:]
    gap_title = "Gap to twin, points" if is_share(metrics[0]) else "Ratio to twin"
    has_twin = any(group.trial.method == TWIN for group in groups)
    is_training = groups[0].trial.track == TRAINED
    columns = [
        Column("Method"),
        *(Column(title(fact)) for fact in varied),
        *(Column(title(metric), number=True, note=metric) for metric in main),
        *([Column(gap_title, number=True)] if has_twin else []),
        *(published.COLUMNS if is_training else ()),
        *(Column(title(metric), number=True, note=metric) for metric in others),
        *(Column("Seeds", number=True), Column("Trials")),
    ]
    rows = []
    for group, fact in zip(groups, facts, strict=True):
        cells = [words(group.trial.method), *(_fact_cell(fact.get(name)) for name in varied)]
        cells += [_estimate_cell(group, metric) for metric in main]
        if has_twin:
            cells.append(_gap_cell(view, group, main[0]))
        cells += published.cells(group) if is_training else []
        cells += [_estimate_cell(group, metric) for metric in others]
        seeds = len({one.trial.seed for one in group.done})
        cells += [Cell(str(seeds), seeds), trial_links(view.numbers(group.done))]
        rows.append((group.trial.method, cells))
    return table(f"{key}-table", view.title(groups[0].trial.track), columns, rows)


def _fact_cell(value: Value) -> Cell:
    return MISSING if value is None or value == "" else words(value)


def _estimate_cell(group: Group, metric: str) -> Cell:
    estimate = group.estimate(metric)
    if estimate is None:
        return MISSING
    text = estimate_text(metric, estimate)
    if metric == "exact":
        text = f'<span class="{"yes" if estimate.mean == 1 else "no"}">{escape(text)}</span>'
        return Cell(text, estimate.mean)
    return Cell(escape(text), estimate.mean)


def _gap_cell(view: View, group: Group, metric: str) -> Cell:
    twin = view.twins.get(group.trial)
    if twin is None:
        return MISSING
    gap = group.gap(twin, metric) if is_share(metric) else group.ratio(twin, metric)
    if gap is None:
        return MISSING
    return Cell(points_text(gap) if is_share(metric) else times_text(gap), gap.mean)


def _slug(name: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name)
