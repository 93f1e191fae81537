# SPDX-License-Identifier: Apache-2.0
"""The parts of the page, as HTML; every text from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import Any

from bittern.bench.core.words import number_word, plural
from bittern.bench.page.data import RADAR_AXES, cost_text
from bittern.bench.page.metrics import NONE_YET, estimate_text, points_text
from bittern.bench.page.tables import MISSING, Cell, Column, table, trial_links, words
from bittern.bench.page.view import View
from bittern.bench.trials.builds import builds_told
from bittern.bench.trials.candidates import COSTS, SCORE, Candidate, common_costs, front
from bittern.bench.trials.trial import TWIN

COST_TITLES = {"bytes": "Stored bytes", "ops": "OPs", "latency": "Latency"}
HINT = "Arrow keys go through the values; the table below has all of them."


def header(view: View) -> str:
    methods = [name for name in view.methods if name != TWIN]
    machines = {replace(machine, build="", bittern="") for machine in view.machines}
    counts = [
        plural(len(view.done), "trial"),
        plural(len({one.trial.task for one in view.done}), "task"),
        plural(len({one.trial.network for one in view.done}), "network"),
        plural(len({one.trial.seed for one in view.done}), "seed"),
        plural(len(machines), "machine"),
    ]
    mixed = builds_told(view.done)
    warning = f'\n<p class="reading"><strong>{escape(mixed)}</strong></p>' if mixed else ""
    return f"""<header>
<p class="eyebrow">Bittern benchmark</p>
<h1>Which binarization, for which task, on which hardware?</h1>
<p class="lead">{escape(number_word(len(methods)).capitalize())} {"method" if len(methods) == 1 else "methods"} beside \
the float twin, the same network with real weights: {escape(", ".join(counts))}. Every number names its trials, and
every trial its machine and its command.</p>
<p class="reading">± is the standard deviation over seeds, told of at least three; without it there were fewer, or all
were equal. A gap is the difference from the float twin of the same seed, and its ± that of those differences. Where
intervals overlap, the order of two methods means nothing.</p>{warning}
</header>"""


def controls() -> str:
    """What is of use with page.js alone, which shows it."""
    return """<nav class="methods" aria-label="Methods shown in charts and tables" hidden>
<div id="methods" role="group" aria-label="Methods"></div>
<button id="theme" type="button"></button>
</nav>"""


def overall(data: dict[str, Any] | None, methods: tuple[str, ...]) -> str:
    if data is None:
        return ""
    companions = data["companions"]
    titles = _beside_axes([axis["title"] for axis in data["axes"]], [one["title"] for one in companions], companions)
    columns = [Column("Method"), *(Column(title, number=True) for title in titles)]
    rows = []
    for row in data["rows"]:
        values = _beside_axes(list(zip(row["values"], row["texts"], strict=True)), row["companions"], companions)
        cells = [MISSING if value is None else Cell(escape(text), value) for value, text in values]
        rows.append((methods[row["method"]], [words(methods[row["method"]]), *cells]))
    why = "".join(f'<p class="reading">{escape(one["why"])}</p>\n' for one in companions)
    lacking = [methods[row["method"]] for row in data["rows"] if None in row["values"]]
    left_out = f" Not drawn, since a track is missing: {escape(', '.join(lacking))}." if lacking else ""
    reading = "Farther out is better; each axis ends at the best method."
    if len(data["axes"]) < RADAR_AXES:
        left_out, reading = "", "Higher is better; 100% is the best method of the track."
    return f"""<section aria-labelledby="overall">
<h2 id="overall">Overall</h2>
<p>One figure a track, as BiBench (arXiv 2301.11233) defines them: quadratic means of ratios to the float twin, which
stands at 1. {reading} Read the raw values of the tracks beside them:
a ratio hides how good the twin is.{left_out}</p>
{why}{_chart("overall-chart", "Overall figure of every track, for each method", "tall")}
{table("overall-table", "Overall figures by track; the float twin is 1, higher is better", columns, rows)}
</section>"""


def _beside_axes(axes: Sequence[Any], beside: Sequence[Any], companions: Sequence[dict[str, Any]]) -> list[Any]:
    """What belongs to each axis, and behind it what belongs to its companion."""
    found = []
    for place, one in enumerate(axes):
        found += [one, *(other for other, told in zip(beside, companions, strict=True) if told["axis"] == place)]
    return found


def tradeoffs(view: View, data: dict[str, Any] | None) -> str:
    if data is None:
        return ""
    options = "".join(f"<option>{escape(task['name'])}</option>" for task in data["tasks"])
    marks = "".join(
        f'<li><span class="mark {escape(one["symbol"])}" aria-hidden="true"></span>{escape(one["name"])}</li>'
        for one in data["networks"]
    )
    measured = [cost for cost in COSTS if any(cost in one.costs for one in view.candidates)]
    charts = "".join(
        f"<figure><figcaption><h3>{COST_TITLES[cost]}</h3></figcaption>"
        f"{_chart(f'pareto-{cost}', f'Score against {COST_TITLES[cost].lower()}')}</figure>\n"
        for cost in measured
    )
    return f"""<section aria-labelledby="tradeoffs">
<h2 id="tradeoffs">Score against cost</h2>
<p>Each mark is a network trained by a method: left is cheaper, up is better. Whiskers are the standard deviation over
seeds. The dashed line joins the choices that no cheaper one matches, by means alone.</p>
<p class="choose" hidden><label>Task <select id="task">{options}</select></label></p>
<ul class="marks" aria-label="Marks of the networks">{marks}</ul>
<div class="plots three">
{charts}</div>
{_candidates_table(view)}
</section>"""


def _candidates_table(view: View) -> str:
    by_task: dict[str, list[Candidate]] = {}
    for one in view.candidates:
        by_task.setdefault(one.trained.trial.task, []).append(one)
    best = {id(one) for found in by_task.values() for one in front(found, common_costs(found))}
    recipes = {one.trained.trial.recipe for one in view.candidates}
    columns = [
        *(Column("Method"), Column("Task"), Column("Network"), *([Column("Recipe")] if len(recipes) > 1 else [])),
        *(Column("Score", number=True), Column("Gap, points", number=True)),
        *(Column(title, number=True) for title in COST_TITLES.values()),
        Column(
            "Not beaten",
            note="by means: no other choice is as good in the score and each cost that all of the task have",
        ),
        *(Column("Seeds", number=True), Column("Trials")),
    ]
    rows = [
        (one.trained.trial.method, _candidate_cells(view, one, id(one) in best, len(recipes) > 1))
        for one in view.candidates
    ]
    return table("choices-table", "What each choice scores and costs", columns, rows)


def _candidate_cells(view: View, one: Candidate, best: bool, with_recipe: bool) -> list[Cell]:
    trial = one.trained.trial
    costs = [
        Cell(escape(cost_text(name, one.costs[name].estimate)), one.costs[name].estimate.mean)
        if name in one.costs
        else MISSING
        for name in COSTS
    ]
    return [
        *(words(trial.method), words(trial.task), words(trial.network)),
        *([words(trial.recipe or NONE_YET)] if with_recipe else []),
        Cell(estimate_text(SCORE, one.score), one.score.mean),
        Cell(points_text(one.gap), one.gap.mean) if one.gap else MISSING,
        *costs,
        Cell('<span class="yes">yes</span>' if best else "", "yes" if best else "no"),
        Cell(str(one.score.count), one.score.count),
        trial_links(view.numbers(one.evidence)),
    ]


def curves(data: list[dict[str, Any]]) -> str:
    if not data:
        return ""
    options = "".join(f"<option>{escape(one['label'])}</option>" for one in data)
    figures = "".join(
        f"<figure><figcaption><h3>{title}</h3></figcaption>{_chart(f'curve-{key}', title)}</figure>"
        for key, title in (("loss", "Loss"), ("accuracy", "Score"))
    )
    return f"""<section aria-labelledby="curves">
<h2 id="curves">Training</h2>
<p>Solid lines are on test data, with a band from the least to the largest of the seeds; dashed ones on training data.
Lines are means over seeds.</p>
<p class="choose" hidden><label>Training <select id="curve">{options}</select></label></p>
<div class="plots">
{figures}
</div>
<details><summary>Values of the curves</summary><div id="curve-values"></div></details>
</section>"""


def trained(data: dict[str, Any]) -> str:
    """Confusion matrix, samples and layers of one trained network, which page.js fills in."""
    if not data["cells"]:
        return ""
    left_out = f" Of {plural(data['left_out'], 'more network')} the page has no room." if data["left_out"] else ""
    places = "".join(
        f"<option>{escape(place)}</option>" for place in dict.fromkeys(one["place"] for one in data["cells"])
    )
    return f"""<section aria-labelledby="trained">
<h2 id="trained">Inside a trained network</h2>
<p>What it confuses on the test set, what it says of samples, and what its layers hold.{left_out}</p>
<p class="choose" hidden><label>Training <select id="look-place">{places}</select></label>
<label>Method <select id="look-method"></select></label></p>
<noscript><p>This part needs JavaScript.</p></noscript>
<div id="look"></div>
</section>"""


def _chart(key: str, label: str, kind: str = "") -> str:
    return f'<div id="{key}" class="chart {kind}" role="img" tabindex="0" aria-label="{escape(label)}. {HINT}"></div>'
