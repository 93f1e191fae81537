# SPDX-License-Identifier: Apache-2.0
"""The tables of a store of trials, and whether a file has them.

A result belongs to a trial and a machine: two machines may answer the same trial, and both answers are kept. Settings
and machines are JSON, for SQL has nothing to ask of them; everything else can be asked for by any SQLite program.
"""

from __future__ import annotations

import functools
import sqlite3

from bittern.bench.core.store import StoreError

APPLICATION = int.from_bytes(b"BtTr", "big")
"""SQLite's application_id: what tells such a file from any other database."""
VERSION = 2
"""SQLite's user_version: grows whenever an older program could not read the file, or could read it wrongly.

2: machines say which build of bittern they ran. 1: they do not; the tables are the same.
"""
TABLES = (
    """CREATE TABLE machines (
    digest TEXT PRIMARY KEY, -- SHA-256 of the description
    description TEXT NOT NULL -- JSON: Machine
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE trials (
    key TEXT PRIMARY KEY, -- Trial.key
    track TEXT NOT NULL, task TEXT NOT NULL, network TEXT NOT NULL, method TEXT NOT NULL,
    recipe TEXT NOT NULL, seed INTEGER NOT NULL, epochs INTEGER NOT NULL,
    settings TEXT NOT NULL -- JSON: an object
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    trial TEXT NOT NULL REFERENCES trials (key),
    machine TEXT NOT NULL REFERENCES machines (digest),
    command TEXT NOT NULL,
    finished TEXT NOT NULL, -- UTC, ISO 8601
    seconds REAL NOT NULL,
    digest TEXT NOT NULL, -- SHA-256 of all that was found
    UNIQUE (trial, machine)
) STRICT""",
    """CREATE TABLE metrics (
    result INTEGER NOT NULL REFERENCES results (id), name TEXT NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (result, name)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE curves (
    result INTEGER NOT NULL REFERENCES results (id), name TEXT NOT NULL, epoch INTEGER NOT NULL, value REAL NOT NULL,
    PRIMARY KEY (result, name, epoch)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE notes (
    result INTEGER NOT NULL REFERENCES results (id), place INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (result, place)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE artefacts (
    result INTEGER NOT NULL REFERENCES results (id), name TEXT NOT NULL, digest TEXT NOT NULL, content BLOB NOT NULL,
    PRIMARY KEY (result, name)
) STRICT""",
    """CREATE TABLE failures (
    trial TEXT NOT NULL REFERENCES trials (key),
    machine TEXT NOT NULL REFERENCES machines (digest),
    error TEXT NOT NULL, command TEXT NOT NULL, finished TEXT NOT NULL,
    PRIMARY KEY (trial, machine)
) STRICT, WITHOUT ROWID""",
)


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, inside a transaction of the caller. Raises: sqlite3.Error."""
    for table in TABLES:
        connection.execute(table)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def upgrade(connection: sqlite3.Connection) -> None:
    """Make a checked file one of this version, inside a transaction of the caller. Raises: sqlite3.Error."""
    connection.execute(f"PRAGMA user_version = {VERSION}")


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nothing was ever put there, as in a file of no bytes. Raises: sqlite3.Error."""
    return (
        not _pragma(connection, "application_id")
        and not _pragma(connection, "user_version")
        and not _objects(connection)
    )


def check(connection: sqlite3.Connection, path: object) -> None:
    """Raises: StoreError for a file of another kind or version, or with tables that this version does not make;
    sqlite3.Error for a damaged one."""
    if _pragma(connection, "application_id") != APPLICATION:
        raise StoreError(f"{path} is no store of trials; give the file that `bittern bench run --store` wrote")
    version = _pragma(connection, "user_version")
    if version > VERSION:
        raise StoreError(
            f"{path} has version {version} of the store, and this bittern knows versions up to {VERSION}; install a "
            "newer bittern, or choose another file"
        )
    # views, triggers or columns that somebody added could answer with anything
    if version < 1 or _objects(connection) != _expected():
        raise StoreError(f"{path} does not have the tables of version {VERSION} of the store; it is damaged or changed")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _objects(connection: sqlite3.Connection) -> frozenset[tuple[str, str, str | None]]:
    return frozenset(connection.execute("SELECT type, name, sql FROM sqlite_schema"))


@functools.cache
def _expected() -> frozenset[tuple[str, str, str | None]]:
    connection = sqlite3.connect(":memory:")
    try:
        create(connection)
        return _objects(connection)
    finally:
        connection.close()
