# SPDX-License-Identifier: Apache-2.0
"""A store as tables for other programs: CSV always, Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bittern import recipes
from bittern._files import write_atomically
from bittern.bench.trials.rows import digest_of_machine
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.trial import TWIN, Done, Trial, Value
from bittern.recipes.published import NONE_READ

Table = Mapping[str, Sequence[Value]]
"""Columns by name."""
PERCENTAGES = ("accuracy_percent", "accuracy_percent_up_to", "twin_percent")
WHAT = ("track", "task", "network", "method", "recipe", "seed", "epochs")


def csv_bytes(table: Table) -> bytes:
    """A header, a line for each row, numbers as Python writes them, nothing for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue().encode()


def parquet_bytes(table: Table) -> bytes:
    """Raises: ImportError without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError("bench export: Parquet needs pyarrow: pip install 'bittern[parquet]'; or take csv") from error
    sink = io.BytesIO()
    kinds = {"seed": pyarrow.int64(), "epochs": pyarrow.int64(), "epoch": pyarrow.int64()}
    kinds |= {"batch_size": pyarrow.int64(), "seconds": pyarrow.float64(), "value": pyarrow.float64()}
    kinds |= {name: pyarrow.float64() for name in PERCENTAGES}
    # typed by name, for a column without rows has no type of its own
    columns = {name: pyarrow.array(values, kinds.get(name, pyarrow.string())) for name, values in table.items()}
    parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


FORMATS: Mapping[str, Callable[[Table], bytes]] = {"csv": csv_bytes, "parquet": parquet_bytes}


def export(store: TrialStore, folder: Path, kind: str = "csv") -> tuple[Path, ...]:
    """Write trials, metrics, curves, notes, failures, machines and what was published of the methods, a file each, into
    `folder`. Artefacts stay behind.

    kind: of `FORMATS`. Rows belong together by `key` and `machine`, the digest of a machine's description. Results of
    all machines are there.

    Raises: ImportError without pyarrow; StoreError; OSError.
    """
    written = {name: FORMATS[kind](table) for name, table in tables(store).items()}
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / f"{name}.{kind}": content for name, content in written.items()}
    for path, content in paths.items():
        write_atomically(path, content)
    return tuple(paths)


def tables(store: TrialStore) -> dict[str, Table]:
    """Each by its name. Raises: StoreError; OSError."""
    done, failed = store.done(every_machine=True), store.failed()
    found = [*(d.machine for d in done), *(f.machine for f in failed)]
    machines = {digest_of_machine(machine): machine for machine in found}
    return {
        "trials": _table(
            ("key", *WHAT, "settings", "machine", "command", "finished", "seconds"),
            [
                (d.trial.key, *_what(d.trial), digest_of_machine(d.machine), d.command, d.finished, d.seconds)
                for d in done
            ],
        ),
        "metrics": _table(
            ("key", "machine", "name", "value"),
            [(*_place(d), name, value) for d in done for name, value in sorted(d.result.metrics.items())],
        ),
        "curves": _table(
            ("key", "machine", "name", "epoch", "value"),
            [
                (*_place(d), name, epoch, value)
                for d in done
                for name, values in sorted(d.result.curves.items())
                for epoch, value in enumerate(values, 1)
            ],
        ),
        "notes": _table(("key", "machine", "text"), [(*_place(d), text) for d in done for text in d.result.notes]),
        "failures": _table(
            ("key", *WHAT, "settings", "machine", "command", "finished", "error"),
            [
                (f.trial.key, *_what(f.trial), digest_of_machine(f.machine), f.command, f.finished, f.error)
                for f in failed
            ],
        ),
        "machines": _table(("machine", "description"), [(digest, str(m)) for digest, m in sorted(machines.items())]),
        "published": _table(
            (
                "method",
                *PERCENTAGES,
                "data",
                "network",
                "note",
                "source",
                "epochs",
                "batch_size",
                "augmentation",
                "task",
            ),
            [row for name in sorted({d.trial.method for d in done} - {TWIN}) for row in _published(name)],
        ),
    }


def _published(method: str) -> list[tuple[Value, ...]]:
    """A row for each figure, and one without where none was read; behind them how the authors train."""
    record = next((record for record in recipes.ALL if record.name == method), None)
    if record is None:
        return [(method, *[None] * 6, NONE_READ, *[None] * 4)]
    theirs = (record.epochs, record.batch_size, record.augmentation, record.task)
    found: list[tuple[Value, ...]] = [
        (method, one.accuracy, one.most, one.twin, one.data, one.network, one.note, one.source, *theirs)
        for one in record.published
    ]
    return found or [(method, *[None] * 6, NONE_READ, *theirs)]


def _table(names: Sequence[str], rows: Sequence[Sequence[Value]]) -> Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return dict(zip(names, columns, strict=True))


def _what(trial: Trial) -> tuple[Value, ...]:
    settings = json.dumps(dict(trial.settings), ensure_ascii=False)
    return *(getattr(trial, name) for name in WHAT), settings


def _place(done: Done) -> tuple[str, str]:
    return done.trial.key, digest_of_machine(done.machine)
