# SPDX-License-Identifier: Apache-2.0
"""Published figures beside the trainings of a page, and how recipes there and here differ."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bittern.bench.page.metrics import signed
from bittern.bench.page.tables import MISSING, Cell, Column, table, words
from bittern.bench.page.view import View
from bittern.bench.tracks.published import Differences, differences, figures_of, nearest
from bittern.bench.trials.candidates import TRAINED
from bittern.bench.trials.groups import Group
from bittern.bench.trials.trial import TWIN
from bittern.recipes.published import NONE_READ, Published

COLUMNS = (
    Column("Published gap, points", number=True, note="to the float twin of the same source"),
    Column("Published", number=True, note="of the network that is nearest; the table below has all figures"),
)
"""Of a table of trainings, behind the gap that was found here."""
NONE = Cell(f'<span class="none">{NONE_READ}</span>')


def cells(group: Group) -> list[Cell]:
    """Of `COLUMNS`."""
    if group.trial.method == TWIN:
        return [Cell(""), Cell("")]
    figure = nearest(group.trial.method, group.trial.network)
    if figure is None:
        return [NONE, NONE]
    where = escape(f"{figure.data}, {figure.network}")
    return [_gap(figure), Cell(f'<a href="#published">{_percent(figure)}</a> <small>{where}</small>', figure.accuracy)]


def section(view: View, groups: Sequence[Group]) -> str:
    """Two tables: all figures of the methods that were trained, and how the trainings differ."""
    methods = dict.fromkeys(group.trial.method for group in groups if group.trial.method != TWIN)
    if not methods:
        return ""
    return f"""<h3 id="published">Published figures</h3>
<p class="reading">They are of other data sets, networks and recipes, so they are no targets of these trainings; what
compares best is how far a method falls below its float twin, there and here. Only figures whose source was read
stand here. The second table has the recipe of the authors, which figures from others' tables need not follow.</p>
{_figures(list(methods))}
{_differences(view, groups)}
"""


def _figures(methods: Sequence[str]) -> str:
    columns = [
        *(Column("Method"), Column("Published", number=True), Column("Data set, network")),
        *(Column("Float twin there", number=True), Column("Gap there, points", number=True), Column("Source")),
    ]
    rows = []
    for method in methods:
        found = figures_of(method)
        rows += [(method, [words(method), *_row(figure)]) for figure in found]
        if not found:
            rows.append((method, [words(method), NONE, *[Cell("")] * 4]))
    return table("published-table", "What was published of each method", columns, rows)


def _row(figure: Published) -> list[Cell]:
    twin = MISSING if figure.twin is None else Cell(f"{figure.twin:g}%", figure.twin)
    source = Cell(f'<span class="reason">{escape(figure.source)}</span>')
    return [Cell(_percent(figure), figure.accuracy), words(figure.place), twin, _gap(figure), source]


def _differences(view: View, groups: Sequence[Group]) -> str:
    """One row for all trainings of a method that differ from the authors' alike."""
    track = next((one for one in view.tracks if one.name == TRAINED), None)
    problems = getattr(track, "problems", ())
    alike: dict[tuple[str, str, Differences], list[str]] = {}
    for group in groups:
        found = differences(group, problems)
        if found is not None:
            trial = group.trial
            alike.setdefault((trial.method, trial.recipe, found), []).append(f"{trial.task}, {trial.network}")
    if not alike:
        return ""
    columns = [
        *(Column("Method"), Column("Recipe"), Column("Trained here on"), Column("There on"), Column("Epochs")),
        *(Column("Batch there", number=True), Column("Augmentation there"), Column("Recipe here")),
    ]
    rows = []
    for (method, recipe, found), places in alike.items():
        texts = [_long("; ".join(dict.fromkeys(places))), words(found.trained_for), words(found.epochs)]
        texts += [Cell(found.batch, float(found.batch)), _long(found.augmentation), _long(found.here)]
        rows.append((method, [words(method), words(recipe), *texts]))
    return table("recipes-table", "How these trainings differ from those of the authors", columns, rows)


def _percent(figure: Published) -> str:
    return escape(figure.percent.replace(" %", "%"))


def _gap(figure: Published) -> Cell:
    if figure.gap is None:
        return Cell('<span class="none">no twin there</span>')
    return Cell(signed(f"{figure.gap:+.1f}"), figure.gap)


def _long(text: str) -> Cell:
    return Cell(f'<span class="reason">{escape(text)}</span>')
