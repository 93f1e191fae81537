# SPDX-License-Identifier: Apache-2.0
"""Results of trials in one SQLite file, each written whole or not at all.

One process writes (a driver, which holds a lock beside the file as long as it lives), any number read. Killed at any
moment, the file has every trial that was added, once. Results of two machines for one trial are both kept: speeds
differ from machine to machine, and a merge must not decide which one counts. Readers who average over trials get one
of them, the one that was finished first, unless they ask for all.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bittern._files import only_one
from bittern.bench.core.machine import Machine
from bittern.bench.core.store import StoreError
from bittern.bench.trials import rows
from bittern.bench.trials.database import (
    check_pages,
    close_written,
    explained,
    open_to_read,
    open_to_write,
    transaction,
)
from bittern.bench.trials.trial import Done, Failed, Trial

DONE = f"""SELECT results.id, command, finished, seconds, digest, machine, {rows.TRIAL_COLUMNS}
FROM results JOIN trials ON trials.key = results.trial"""
FAILED = f"""SELECT error, command, finished, machine, {rows.TRIAL_COLUMNS}
FROM failures JOIN trials ON trials.key = failures.trial
WHERE trial NOT IN (SELECT trial FROM results) ORDER BY finished, key, machine"""


class TrialStore:
    """Made by `open` or `read`; used as a context manager, or closed by `close`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, held: ExitStack) -> None:
        self.path = path
        self._connection = connection
        self._held = held
        self._machines: dict[str, Machine] = {}

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """To write; made where there is none. Closed, it is one file.

        Raises: InUseError while another driver has it; StoreError for a file that is none, damaged, or of a newer
        version; OSError.
        """
        path = Path(path)
        refusal = f"{path} is in use by another driver; wait for its end, or give each a store and merge them"
        with ExitStack() as stack:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_one(path.with_name(f"{path.name}.lock"), refusal))
            connection = open_to_write(path)
            stack.callback(close_written, connection)
            return cls(path, connection, stack.pop_all())

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """To read, also while a driver writes. Raises: FileNotFoundError, OSError, StoreError."""
        path = Path(path)
        connection = open_to_read(path)
        held = ExitStack()
        held.callback(connection.close)
        return cls(path, connection, held)

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, done: Done, *, beside: bool = False) -> bool:
        """Keep a result, and forget that the trial failed before. False: the trial has one already, which stays.

        beside: keep it too where other machines have answered the same trial, as a merge does.

        Raises: ValueError for what a store cannot hold (a number that is not finite, an artefact beyond its limits);
        OSError, with nothing written.
        """
        with explained(self.path), transaction(self._connection):
            there = self._answered_by(done.trial)
            if rows.digest_of_machine(done.machine) in there or (there and not beside):
                return False
            rows.insert_result(self._connection, done)
            self._connection.execute("DELETE FROM failures WHERE trial = ?", (done.trial.key,))
            return True

    def add_failed(self, failed: Failed) -> None:
        """Keep an error, in place of what the same machine said before of this trial. Raises: ValueError; OSError."""
        rows.check_failed(failed)
        with explained(self.path), transaction(self._connection):
            rows.insert_trial(self._connection, failed.trial)
            machine = rows.insert_machine(self._connection, failed.machine)
            self._connection.execute(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)",
                (failed.trial.key, machine, failed.error, failed.command, failed.finished),
            )

    def has(self, trial: Trial) -> bool:
        """Whether it has a result, of any machine. Raises: OSError, StoreError."""
        with explained(self.path):
            return bool(self._answered_by(trial))

    def done(self, *, every_machine: bool = False) -> tuple[Done, ...]:
        """All results, the first finished first; of several machines for one trial the first, or all of them.

        Raises: StoreError for a damaged file, OSError.
        """
        found = self._done("ORDER BY finished, key, machine")
        if every_machine:
            return tuple(found)
        first: dict[str, Done] = {}
        for done in found:
            first.setdefault(done.trial.key, done)
        return tuple(first.values())

    def check(self) -> None:
        """Look through the whole file. Raises: StoreError for a damaged one, OSError."""
        with explained(self.path):
            check_pages(self._connection, self.path)
        for done in self._done("ORDER BY key, machine"):
            for name in done.result.artefacts:
                done.result.artefacts[name]  # compared with its digest

    def find(self, beginning: str) -> tuple[Done, ...]:
        """The results, of all machines, whose trials' keys begin so. Raises: StoreError, OSError."""
        end = len(beginning)
        return tuple(self._done("WHERE substr(key, 1, ?) = ? ORDER BY key, finished, machine", end, beginning))

    def get(self, trial: Trial) -> Done | None:
        """Its first result. Raises: StoreError, OSError."""
        return next(self._done("WHERE key = ? ORDER BY finished, machine", trial.key), None)

    def failed(self) -> tuple[Failed, ...]:
        """Trials that raised, and have no result of any machine. Raises: StoreError, OSError."""
        with explained(self.path), self._named():
            return tuple(
                Failed(
                    rows.read_trial(tuple(trial)), error, self._machine(machine), command, rows.check_moment(finished)
                )
                for error, command, finished, machine, *trial in self._connection.execute(FAILED)
            )

    def artefact(self, key: str, name: str) -> bytes:
        """Of a trial's first result. Raises: KeyError where there is none; StoreError, OSError."""
        done = next(self._done("WHERE key = ? ORDER BY finished, machine", key), None)
        if done is None or name not in done.result.artefacts:
            raise KeyError(f"{self.path} has no artefact {name} of trial {key[:12]}")
        return done.result.artefacts[name]

    def _answered_by(self, trial: Trial) -> set[str]:
        query = "SELECT machine FROM results WHERE trial = ?"
        return {machine for (machine,) in self._connection.execute(query, (trial.key,))}

    def _done(self, where: str, *values: object) -> Iterator[Done]:
        with explained(self.path), self._named():
            found: list[tuple[Any, ...]] = self._connection.execute(f"{DONE} {where}", values).fetchall()
            for row, command, finished, seconds, digest, machine, *trial in found:
                result, artefacts = rows.read_result(self._connection, row, self._fetch)
                moment = rows.check_moment(finished)
                done = Done(rows.read_trial(tuple(trial)), result, self._machine(machine), command, moment, seconds)
                if rows.digest_of_result(done, artefacts) != digest:
                    raise StoreError(f"the result of {done.trial} is damaged: it is not what its digest says")
                yield done

    def _fetch(self, row: int, name: str, digest: str) -> bytes:
        with explained(self.path), self._named():
            query = "SELECT content FROM artefacts WHERE result = ? AND name = ?"
            (content,) = self._connection.execute(query, (row, name)).fetchone() or (None,)
            if not isinstance(content, bytes) or hashlib.sha256(content).hexdigest() != digest:
                raise StoreError(f"artefact {name} is damaged: it is not what its digest says")
            return content

    def _machine(self, digest: str) -> Machine:
        if digest not in self._machines:
            query = "SELECT description FROM machines WHERE digest = ?"
            found = self._connection.execute(query, (digest,)).fetchone()
            if found is None:
                raise StoreError(f"machine {digest[:12]} is missing")
            self._machines[digest] = rows.read_machine(digest, found[0])
        return self._machines[digest]

    def _named(self) -> _Named:
        return _Named(self.path)


class _Named:
    """What is wrong with what was read, with the file's name in front: StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (ValueError, TypeError)) and str(self._path) not in str(error):
            raise StoreError(f"{self._path}: {error}; move it away, or take a copy of before") from error
