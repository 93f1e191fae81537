# SPDX-License-Identifier: Apache-2.0
"""Where every number comes from: cells that failed, all trials, the machines and the commands."""

from __future__ import annotations

from html import escape

from bittern.bench.budget.record import left_out as dropped_of
from bittern.bench.core.words import plural
from bittern.bench.page.metrics import found_text, seconds_text, title
from bittern.bench.page.tables import Cell, Column, table, words
from bittern.bench.page.view import View
from bittern.bench.trials.trial import Done, Failed, Trial

KEY_DIGITS = 12
"""Of a trial's key, which `bittern bench show` takes."""


def failures(view: View) -> str:
    if not view.failed:
        return ""
    columns = [
        *(Column("Method"), Column("Track"), Column("Task"), Column("Network"), Column("Seed", number=True)),
        *(Column("Reason"), Column("Machine"), Column("Command"), Column("When")),
    ]
    rows = []
    for one in view.failed:
        trial = one.trial
        cells = [words(trial.method), words(view.title(trial.track)), words(trial.task), words(trial.network)]
        cells += [Cell(str(trial.seed), trial.seed), Cell(f'<span class="reason">{escape(one.error)}</span>')]
        cells += [_machine(view, one), _command(view, one), words(_day(one.finished))]
        rows.append((trial.method, cells))
    return f"""<section aria-labelledby="failed">
<h2 id="failed">What failed</h2>
<p>Cells of the tables above that are empty, and why.</p>
{table("failed-table", "Failed trials", columns, rows)}
</section>"""


def left_out(view: View) -> str:
    """What budgets dropped."""
    found = dict.fromkeys(
        (f"{one.trial.task}, {one.trial.network}", sentence) for one in view.done for sentence in dropped_of(one)
    )
    if not found:
        return ""
    items = "\n".join(f"<li><b>{escape(place)}</b>: {escape(sentence)}</li>" for place, sentence in found)
    return f"""<section aria-labelledby="left-out">
<h2 id="left-out">What was left out</h2>
<p>A budget of time decided what was tried: the better half by the held-out score went on.</p>
<ul>
{items}
</ul>
</section>"""


def trials(view: View) -> str:
    columns = [
        *(Column("No.", number=True), Column("Method"), Column("Track"), Column("Task"), Column("Network")),
        *(Column("Recipe"), Column("Seed", number=True), Column("Settings"), Column("Found"), Column("Notes")),
        *(Column("Took", number=True), Column("Machine"), Column("Command"), Column("When"), Column("Key")),
    ]
    notes: dict[tuple[str, ...], int] = {}
    rows = []
    for number, one in enumerate(view.done, 1):
        trial = one.trial
        found = found_text(one.result.metrics)
        cells = [Cell(f'<span id="t{number}">{number}</span>', number)]
        cells += map(words, (trial.method, view.title(trial.track), trial.task, trial.network, trial.recipe))
        cells += [Cell(str(trial.seed), trial.seed), words(_settings(trial)), Cell(f"<small>{escape(found)}</small>")]
        cells.append(_notes(notes, one.result.notes))
        cells += [Cell(seconds_text(one.seconds), one.seconds), _machine(view, one), _command(view, one)]
        cells += [words(_day(one.finished)), Cell(f"<code>{trial.key[:KEY_DIGITS]}</code>")]
        rows.append((trial.method, cells))
    return f"""<section aria-labelledby="trials">
<h2 id="trials">All trials</h2>
<p>The numbers in the column "Trials" of the tables above lead here. "Took" is the whole trial on a machine that may
have done other things: no measure of speed. <code>bittern bench show STORE KEY</code> tells everything of one.</p>
<p class="choose" hidden><label>Find <input id="find" type="search"></label></p>
<details id="all"><summary>{plural(len(view.done), "trial")}</summary>
{table("trials-table", "Trials", columns, rows)}
{_listed_notes(notes)}
</details>
</section>"""


def sources(view: View) -> str:
    """Machines and commands, with the numbers that the tables name."""
    machines = "\n".join(
        f'<div><dt id="m{number}">M{number}</dt><dd>{escape(str(machine))}</dd></div>'
        for number, machine in enumerate(view.machines, 1)
    )
    commands = "\n".join(
        f'<div><dt id="c{number}">C{number}</dt><dd><code>{escape(command)}</code></dd></div>'
        for number, command in enumerate(view.commands, 1)
    )
    return f"""<section aria-labelledby="sources">
<h2 id="sources">Machines and commands</h2>
<h3>Machines</h3>
<dl class="facts">
{machines}
</dl>
<h3>Commands</h3>
<dl class="facts">
{commands}
</dl>
</section>"""


def _settings(trial: Trial) -> str:
    parts = [f"{trial.epochs} epochs"] if trial.epochs else []
    return ", ".join(
        [*parts, *(f"{title(name).lower()} {value}" for name, value in trial.settings if value is not None)]
    )


def _machine(view: View, one: Done | Failed) -> Cell:
    number = view.machines.index(one.machine) + 1
    return Cell(f'<a href="#m{number}">M{number}</a>', f"M{number}")


def _command(view: View, one: Done | Failed) -> Cell:
    number = view.commands.index(one.command) + 1
    return Cell(f'<a href="#c{number}">C{number}</a>', f"C{number}")


def _notes(known: dict[tuple[str, ...], int], notes: tuple[str, ...]) -> Cell:
    """A number: many trials have the same notes."""
    if not notes:
        return Cell("")
    number = known.setdefault(notes, len(known) + 1)
    return Cell(f'<a href="#n{number}">N{number}</a>', f"N{number}")


def _listed_notes(known: dict[tuple[str, ...], int]) -> str:
    if not known:
        return ""
    items = "\n".join(
        f'<div><dt id="n{number}">N{number}</dt><dd>{escape(" ".join(notes))}</dd></div>'
        for notes, number in known.items()
    )
    return f'<h3>Notes</h3>\n<dl class="facts">\n{items}\n</dl>'


def _day(finished: str) -> str:
    """Of an ISO 8601 time, to the minute."""
    return finished[:16].replace("T", " ")
