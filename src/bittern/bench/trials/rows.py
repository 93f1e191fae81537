# SPDX-License-Identifier: Apache-2.0
"""Trials, machines and results as rows of a store, and back, with nothing believed that a file says."""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from bittern.bench.core.machine import Machine
from bittern.bench.core.store import StoreError, from_json
from bittern.bench.trials.database import LARGEST_VALUE
from bittern.bench.trials.trial import Done, Failed, Result, Trial, Value

FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
"""Of an artefact: a name that is safe in any folder."""
LARGEST_WHOLE = 2**63 - 1
"""SQLite's."""


def digest_of_machine(machine: Machine) -> str:
    """SHA-256 of its description."""
    return hashlib.sha256(_machine_json(machine).encode()).hexdigest()


def insert_trial(connection: sqlite3.Connection, trial: Trial) -> None:
    """Raises: ValueError for what SQLite cannot hold; sqlite3.Error."""
    if not (abs(trial.seed) <= LARGEST_WHOLE and 0 <= trial.epochs <= LARGEST_WHOLE):
        raise ValueError(f"trial store: seed and epochs must have at most 63 bits; got {trial.seed}, {trial.epochs}")
    settings = json.dumps(dict(trial.settings), separators=(",", ":"))
    connection.execute(
        "INSERT OR IGNORE INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(trial.key, trial.track, trial.task, trial.network, trial.method, trial.recipe),
            *(trial.seed, trial.epochs, settings),
        ),
    )


def insert_machine(connection: sqlite3.Connection, machine: Machine) -> str:
    """Returns its digest. Raises: sqlite3.Error."""
    digest = digest_of_machine(machine)
    connection.execute("INSERT OR IGNORE INTO machines VALUES (?, ?)", (digest, _machine_json(machine)))
    return digest


def insert_result(connection: sqlite3.Connection, done: Done) -> None:
    """All rows of a result, in a transaction of the caller. Raises: ValueError; sqlite3.Error."""
    result = done.result
    artefacts = {name: bytes(content) for name, content in result.artefacts.items()}
    _check_artefacts(artefacts)
    insert_trial(connection, done.trial)
    machine = insert_machine(connection, done.machine)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in artefacts.items()}
    row = connection.execute(
        "INSERT INTO results (trial, machine, command, finished, seconds, digest) VALUES (?, ?, ?, ?, ?, ?)",
        (done.trial.key, machine, done.command, done.finished, _real(done.seconds), digest_of_result(done, digests)),
    ).lastrowid
    metrics = [(row, name, _real(value)) for name, value in result.metrics.items()]
    curves = [(row, name, e, _real(v)) for name, values in result.curves.items() for e, v in enumerate(values, 1)]
    connection.executemany("INSERT INTO metrics VALUES (?, ?, ?)", metrics)
    connection.executemany("INSERT INTO curves VALUES (?, ?, ?, ?)", curves)
    connection.executemany("INSERT INTO notes VALUES (?, ?, ?)", [(row, i, t) for i, t in enumerate(result.notes)])
    connection.executemany(
        "INSERT INTO artefacts VALUES (?, ?, ?, ?)", [(row, n, digests[n], content) for n, content in artefacts.items()]
    )


def digest_of_result(done: Done, artefacts: Mapping[str, str]) -> str:
    """SHA-256 of all that was found, so that a store tells damaged numbers. artefacts: name -> SHA-256."""
    found = {
        "trial": done.trial.key,
        "machine": digest_of_machine(done.machine),
        "command": done.command,
        "finished": done.finished,
        "seconds": _real(done.seconds),
        "metrics": {name: _real(value) for name, value in done.result.metrics.items()},
        # a curve of no epochs leaves no row
        "curves": {name: [_real(v) for v in values] for name, values in done.result.curves.items() if values},
        "notes": list(done.result.notes),
        "artefacts": dict(artefacts),
    }
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


TRIAL_COLUMNS = "key, track, task, network, method, recipe, seed, epochs, settings"


def read_trial(row: tuple[Any, ...]) -> Trial:
    """Of `TRIAL_COLUMNS`. Raises: StoreError."""
    key, track, task, network, method, recipe, seed, epochs, settings = row
    try:
        found = json.loads(settings)
        if not isinstance(found, dict) or any(not isinstance(v, Value) for v in found.values()):
            raise ValueError("settings must be names with a text, number, truth value or null each")
        trial = Trial(track, task, network, method, recipe, seed, epochs, tuple(sorted(found.items())))
        if trial.key != key:
            raise ValueError("it is not what its key says")
    except (ValueError, TypeError, RecursionError) as error:
        raise StoreError(f"trial {str(key)[:12]} is damaged: {error}") from error
    return trial


def read_machine(digest: str, description: str) -> Machine:
    """Raises: StoreError."""
    machine = from_json(Machine, _with_build(description))
    if digest_of_machine(machine) != digest:
        raise StoreError(f"machine {str(digest)[:12]} is damaged: it is not what its digest says")
    return machine


def read_result(
    connection: sqlite3.Connection, row: int, fetch: Callable[[int, str, str], bytes]
) -> tuple[Result, dict[str, str]]:
    """A result without its artefacts' contents, which `fetch` (row, name, SHA-256) brings when they are asked for, and
    the artefacts' digests. Raises: StoreError; sqlite3.Error."""
    metrics = dict(connection.execute("SELECT name, value FROM metrics WHERE result = ?", (row,)))
    curves: dict[str, list[float]] = {}
    order = "SELECT name, epoch, value FROM curves WHERE result = ? ORDER BY name, epoch"
    for name, epoch, value in connection.execute(order, (row,)):
        curve = curves.setdefault(name, [])
        curve.append(value)
        if epoch != len(curve):
            raise StoreError(f"curve {name} is damaged: epoch {epoch} where {len(curve)} should be")
    notes = [text for (text,) in connection.execute("SELECT text FROM notes WHERE result = ? ORDER BY place", (row,))]
    digests = dict(connection.execute("SELECT name, digest FROM artefacts WHERE result = ? ORDER BY name", (row,)))
    for name in digests:
        if not FILE_NAME.fullmatch(name):
            raise StoreError(f"artefact {name!r} is damaged: that is no name of a file")
    try:
        return Result(
            metrics, {n: tuple(c) for n, c in curves.items()}, Artefacts(row, digests, fetch), tuple(notes)
        ), digests
    except (ValueError, TypeError) as error:
        raise StoreError(f"a result is damaged: {error}") from error


def check_moment(text: str) -> str:
    """Raises: StoreError for no time of ISO 8601."""
    try:
        datetime.fromisoformat(text)
    except (ValueError, TypeError) as error:
        raise StoreError(f"{str(text)[:40]!r} is no time; the result is damaged") from error
    return text


class Artefacts(Mapping[str, bytes]):
    """Contents by name, read from the store when they are asked for: together they may be larger than memory.

    Copying or pickling it reads them all; then it is a plain dict. Raises: StoreError once the store is closed.
    """

    def __init__(self, row: int, digests: Mapping[str, str], fetch: Callable[[int, str, str], bytes]) -> None:
        self._row = row
        self._digests = dict(digests)
        self._fetch = fetch

    def __getitem__(self, name: str) -> bytes:
        return self._fetch(self._row, name, self._digests[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._digests)

    def __len__(self) -> int:
        return len(self._digests)

    def __repr__(self) -> str:
        return f"Artefacts({', '.join(self._digests)})"

    def __reduce__(self) -> tuple[type[dict[str, bytes]], tuple[dict[str, bytes]]]:
        return dict, (dict(self),)


def check_failed(failed: Failed) -> None:
    """Raises: ValueError for an error of several lines."""
    if len(failed.error.splitlines()) != 1:
        raise ValueError(f"trial store: the error of a failed trial must be one line; got {failed.error!r}")


def _check_artefacts(artefacts: Mapping[str, bytes]) -> None:
    for name, content in artefacts.items():
        if not FILE_NAME.fullmatch(name):
            raise ValueError(f"trial store: an artefact needs a plain file name; got {name!r}")
        if len(content) >= LARGEST_VALUE:
            raise ValueError(
                f"trial store: artefact {name} has {len(content):,} bytes; at most {LARGEST_VALUE:,} are kept, leave "
                "it out and say so in the notes"
            )


def _real(value: float) -> float:
    """SQLite keeps no -0. Raises: ValueError for what is not finite, which SQLite keeps as nothing at all."""
    if not math.isfinite(value):
        raise ValueError(f"trial store: numbers must be finite; got {value}")
    return float(value) + 0.0


def _machine_json(machine: Machine) -> str:
    """Without a build where none is known, as stores of version 1 have it, so that their digests stay."""
    found = {name: getattr(machine, name) for name in machine.__slots__ if name != "build" or machine.build}
    return json.dumps(found, separators=(",", ":"))


def _with_build(description: str) -> str:
    """Of a store of version 1 too, whose machines say no build."""
    try:
        found = json.loads(description)
    except (ValueError, RecursionError):
        return description  # whoever reads it next says what is wrong
    return json.dumps({"build": "", **found}) if isinstance(found, dict) else description
