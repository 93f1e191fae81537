# SPDX-License-Identifier: Apache-2.0
"""`bittern bench ls`, `show`, `compare`, `merge` and `export`: what a store of trials has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bittern.cli.errors import Misused, unknown

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from bittern.bench.core.seeds import Estimate
    from bittern.bench.trials.groups import Group
    from bittern.bench.trials.trial import Done, Trial

SHORT = 10
"""Digits of a key that are shown: two of 1,000 trials begin alike once in two million stores."""
MOST_COLUMNS = 6
"""Metrics that a line has room for."""
Where = Annotated[Path, typer.Argument(metavar="STORE", help="File that 'bittern bench run --store' wrote.")]
Track = Annotated[list[str] | None, typer.Option("--track", help="Only this track; may be given again.")]


def ls(store: Where, track: Track = None) -> None:
    """List the trials of a store: results first, then failures."""
    from rich.markup import escape

    from bittern.bench.budget.record import left_out
    from bittern.bench.trials.store import TrialStore
    from bittern.cli.screen import plain_table, printable, screen

    with TrialStore.read(store) as opened:
        done, failed = opened.done(every_machine=True), opened.failed()
    _check_tracks(track, [*(one.trial for one in done), *(one.trial for one in failed)])
    table = plain_table("key", "trial", "epochs", "finished", "seconds", right=("epochs", "seconds"), whole=("key",))
    for one in done:
        if _wanted(one.trial, track):
            text = escape(printable(str(one.trial)))
            table.add_row(one.trial.key[:SHORT], text, str(one.trial.epochs), one.finished[:19], f"{one.seconds:.1f}")
    for bad in failed:
        if _wanted(bad.trial, track):
            text = escape(printable(f"{bad.trial}: {bad.error}"))
            table.add_row(bad.trial.key[:SHORT], text, str(bad.trial.epochs), bad.finished[:19], "failed")
    screen().print(table)
    for sentence in dict.fromkeys(line for one in done for line in left_out(one)):
        typer.echo(printable(f"left out: {sentence}"))


def show(
    store: Where,
    key: Annotated[str, typer.Argument(help="Beginning of a trial's key, as 'bittern bench ls' shows it.")],
    save: Annotated[Path | None, typer.Option(help="Folder to write the trial's artefacts to.")] = None,
) -> None:
    """Show all that is known of a trial, on every machine that ran it."""
    from bittern._files import write_atomically
    from bittern.bench.trials.store import TrialStore

    with TrialStore.read(store) as opened:
        found = opened.find(key) if key else ()
        failed = [one for one in opened.failed() if key and one.trial.key.startswith(key)]
        trials = {one.trial.key for one in found} | {one.trial.key for one in failed}
        if len(trials) != 1:
            what = "no trial begins" if not trials else f"{len(trials)} trials begin"
            raise Misused(f"{what} with {key!r}; 'bittern bench ls {store}' lists the keys")
        for one in found:
            _show(one)
        for bad in failed:
            _lines(bad.trial, bad.machine, bad.command, bad.finished, [("failed", bad.error)])
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            for name, content in found[0].result.artefacts.items() if found else ():
                write_atomically(save / name, content)


def _show(done: Done) -> None:
    result = done.result
    facts = [("seconds", f"{done.seconds:.1f}")]
    facts += [(name, f"{value:.6g}") for name, value in sorted(result.metrics.items())]
    facts += [(name, " ".join(f"{v:.4g}" for v in values)) for name, values in sorted(result.curves.items())]
    facts += [("artefact", name) for name in result.artefacts]
    facts += [("note", note) for note in result.notes]
    _lines(done.trial, done.machine, done.command, done.finished, facts)


def _lines(trial: Trial, machine: object, command: str, finished: str, facts: Iterable[tuple[str, str]]) -> None:
    from bittern.cli.screen import printable

    settings = [(name, str(value)) for name, value in (("epochs", trial.epochs), *trial.settings)]
    rows = [("trial", str(trial)), ("key", trial.key), *settings, ("machine", str(machine)), ("command", command)]
    for name, text in (*rows, ("finished", finished), *facts):
        # not shortened as a whole: a curve may be long
        typer.echo(f"{printable(name)}: {''.join(printable(letter) for letter in text)}")


def compare(
    store: Where,
    track: Track = None,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; may be given again.")] = None,
) -> None:
    """Compare methods in each setting: mean over seeds, ± of at least three, and the difference to the float twin."""
    from bittern.bench.core.seeds import LEAST_SEEDS
    from bittern.bench.tracks import all as listed
    from bittern.bench.trials.builds import builds_told
    from bittern.bench.trials.groups import grouped, twins
    from bittern.bench.trials.store import TrialStore
    from bittern.cli.screen import printable, screen

    with TrialStore.read(store) as opened:
        done = opened.done()
    _check_tracks(track, [one.trial for one in done])
    groups = grouped(one for one in done if not track or one.trial.track in track)
    beside = twins(groups)
    known = dict.fromkeys(name for group in groups for name in group.metrics)
    for name in metric or ():
        if name not in known:
            raise unknown("metric", name, known)
    if not groups:
        typer.echo(f"{store} has no results yet")
        return
    main = {one.name: one.metric for one in listed.ALL}
    for title, rows in _by_setting(groups).items():
        names = dict.fromkeys(name for row in rows for name in row.metrics if not metric or name in metric)
        chief = main.get(rows[0].trial.track)
        columns = sorted(names, key=lambda name: (name != chief, _is_detail(name, names), name))
        shown = columns if metric else columns[:MOST_COLUMNS]
        table = _table(rows, beside, shown, shown if metric else [chief])
        typer.echo(printable(title))
        screen().print(table)
        if len(shown) < len(columns):
            left = ", ".join(columns[len(shown) : len(shown) + 3])
            typer.echo(
                printable(f"and {len(columns) - len(shown)} more, as {left}; --metric shows them, export has all")
            )
        typer.echo("")
    typer.echo(f"± is the standard deviation over seeds, where there are at least {LEAST_SEEDS}.")
    _published(groups)
    if mixed := builds_told(one for group in groups for one in group.done):
        typer.echo(mixed)


def _published(groups: Iterable[Group]) -> None:
    """What others published of the methods that were trained, and how far these trainings follow the authors'."""
    from rich.markup import escape

    from bittern.bench.tracks.published import differences, nearest
    from bittern.bench.trials.candidates import TRAINED
    from bittern.bench.trials.trial import TWIN
    from bittern.cli.screen import plain_table, printable, screen
    from bittern.recipes.published import NONE_READ

    heads = ("method", "recipe", "published", "- its twin", "of", "epochs", "batch there", "augmentation", "read in")
    table = plain_table(*heads, right=("- its twin", "batch there"))
    rows: dict[tuple[str, ...], None] = {}
    for group in groups:
        trial = group.trial
        if trial.track != TRAINED or trial.method == TWIN:
            continue
        figure, differ = nearest(trial.method, trial.network), differences(group)
        told = ("-", "-", "-") if differ is None else (differ.epochs, differ.batch, differ.augmentation)
        if figure is None:
            rows[trial.method, trial.recipe, NONE_READ, "-", "-", *told, "-"] = None
        else:
            gap = "-" if figure.gap is None else f"{figure.gap:+.2f}"
            rows[trial.method, trial.recipe, figure.percent, gap, figure.place, *told, figure.source] = None
    for row in rows:
        table.add_row(*(escape(printable(text)) for text in row))
    if rows:
        typer.echo(
            "\nPublished of these methods (export has all figures). Epochs, batch and augmentation there are those of "
            "the authors' recipe, which a figure from others' tables need not follow:"
        )
        screen().print(table)


def _is_detail(name: str, names: Container[str]) -> bool:
    """Whether it is a part of another metric, as fog_3 is of fog."""
    whole, _, part = name.rpartition("_")
    return part.isdigit() and whole in names


def _table(
    rows: Sequence[Group], twins: Mapping[Trial, Group], columns: Sequence[str], beside_twin: Sequence[str | None]
) -> RichTable:
    """A column for each metric, and one for the difference of those in `beside_twin`."""
    from rich.markup import escape

    from bittern.bench.trials.trial import AUTHORS_RECIPE
    from bittern.cli.screen import plain_table, printable

    parts = [(name, gap) for name in columns for gap in (False, True) if not gap or name in beside_twin]
    heads = [escape(printable(f"{name} - twin" if gap else name)) for name, gap in parts]
    table = plain_table("method", "recipe", "seeds", *heads, right=("seeds", *heads))
    alike = Counter((row.trial.method, _recipe(row.trial)) for row in rows)
    for row in rows:
        twin = twins.get(row.trial)
        gaps = {name: None if twin is None else row.gap(twin, name) for name in columns}
        cells = [_text(gaps[name], "+") if gap else _text(row.estimate(name)) for name, gap in parts]
        seeds = max((len(row.by_seed(name)) for name in row.metrics), default=0)
        recipe = _recipe(row.trial)
        if alike[row.trial.method, recipe] > 1:
            recipe = f"{recipe} {dict(row.trial.settings).get(AUTHORS_RECIPE, '')}"
        table.add_row(escape(printable(row.trial.method)), escape(printable(recipe)), str(seeds), *cells)
    return table


def _recipe(trial: Trial) -> str:
    from bittern.bench.trials.trial import CHOSEN_RATE

    rate = dict(trial.settings).get(CHOSEN_RATE)
    return trial.recipe if rate is None else f"{trial.recipe}, rate {rate:.3g}"


def _by_setting(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """What differs by method and recipe alone stands together, the twin first."""
    from bittern.bench.trials.trial import TWIN

    found: dict[str, list[Group]] = {}
    for group in groups:
        trial = group.trial
        # what is each method's own, as its recipe, stands in its line
        settings = "".join(f", {name} {value}" for name, value in trial.place.settings if value is not None)
        epochs = f", {trial.epochs} epochs" if trial.epochs else ""
        title = ", ".join(part for part in (trial.track, trial.task, trial.network) if part)
        found.setdefault(f"{title}{epochs}{settings}", []).append(group)
    return {title: sorted(rows, key=lambda row: row.trial.method != TWIN) for title, rows in found.items()}


def _text(estimate: Estimate | None, sign: str = "") -> str:
    from bittern.bench.core.seeds import LEAST_SEEDS

    if estimate is None:
        return "-"
    spread = f" ± {estimate.std:.2g}" if estimate.std is not None and estimate.count >= LEAST_SEEDS else ""
    return f"{estimate.mean:{sign}.4g}{spread}"


def merge(
    into: Annotated[Path, typer.Argument(help="Store that gets what the others have; made where there is none.")],
    sources: Annotated[list[Path], typer.Argument(metavar="FROM...", help="Stores to read.")],
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Artefact that stays behind, as model.safetensors; may be given again.", metavar="NAME"),
    ] = None,
) -> None:
    """Put the results of several stores into one; again, nothing changes."""
    from bittern.bench.trials.merge import merge as put

    merged = put(into, sources, leave_out or ())
    typer.echo(f"{into}: {merged.added} results added, {merged.known} were there, {merged.failures} failures added")
    if merged.differing:
        typer.echo(
            f"{merged.differing} of those that were there had other figures from the same machine; the first were kept"
        )


def export(
    store: Where,
    out: Annotated[Path, typer.Option(help="Folder for the tables.")],
    kind: Annotated[str, typer.Option("--format", help="csv, or parquet, which needs pyarrow.")] = "csv",
) -> None:
    """Write trials, metrics, curves, notes, failures and machines as tables, a file each."""
    from bittern.bench.trials.export import FORMATS
    from bittern.bench.trials.export import export as write
    from bittern.bench.trials.store import TrialStore

    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS)
    with TrialStore.read(store) as opened:
        for path in write(opened, out, kind):
            typer.echo(path)


def _wanted(trial: Trial, tracks: Sequence[str] | None) -> bool:
    return not tracks or trial.track in tracks


def _check_tracks(tracks: Sequence[str] | None, trials: Iterable[Trial]) -> None:
    there = dict.fromkeys(trial.track for trial in trials)
    for name in tracks or ():
        if name not in there:
            raise unknown("track", name, there or ("none: the store is empty",))
