# SPDX-License-Identifier: Apache-2.0
"""One SQLite file, opened to read or to write, with SQLite's errors in the words of this program."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bittern.bench.core.store import StoreError
from bittern.bench.trials import schema

LARGEST_VALUE = 64 * 2**20
"""Bytes of an artefact or a text. A file that claims more is refused before memory is taken for it."""
HEADER = b"SQLite format 3\0"
_KEPT = "move it away, or take a copy of before"
WAIT_S = 30.0
"""For another connection's transaction, which takes milliseconds."""


def open_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot change the file. Raises: FileNotFoundError, OSError, StoreError."""
    if not path.is_file():
        raise FileNotFoundError(f"no store of trials at {path}; `bittern bench run --store {path}` makes one")
    # without a log beside it the file is complete, and where no log can be made, nobody writes
    complete = not os.access(path.parent, os.W_OK) and not _log(path).exists()
    with explained(path):
        connection = _connect(path, "mode=ro&immutable=1" if complete else "mode=ro")
        return _checked(connection, path)


def open_to_write(path: Path) -> sqlite3.Connection:
    """A connection to a store, which is made where there is none, and looked through for damage where there is one.

    Raises: OSError, StoreError.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, f"{path} is no file; choose another place for the store")
    # SQLite would take a file of few bytes for one that nothing was written to
    if path.exists() and (found := _beginning(path)) not in (b"", HEADER):
        raise StoreError(f"{path} is no store of trials: it begins with {found!r}; choose another place")
    with explained(path):
        connection = _connect(path, "mode=rwc")
        try:
            with transaction(connection):
                if schema.is_empty(connection):
                    schema.create(connection)
            check_pages(connection, path)
            _checked(connection, path)
            with transaction(connection):
                schema.upgrade(connection)
            # what is committed is on disk, whatever happens to the machine then
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection


def check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Raises: StoreError for a file whose structure is broken; sqlite3.Error."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(f"{path} is damaged: {' '.join(str(found).split())}; {_KEPT}")


def close_written(connection: sqlite3.Connection) -> None:
    """Close it so that the store is one file again, without a log beside it, unless others read it right now."""
    try:
        connection.execute("PRAGMA busy_timeout = 0")
        connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error:
        pass  # the log stays, which costs nothing but a file
    finally:
        connection.close()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. Raises: sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors SQLite has ended it itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of SQLite as OSError (the place) or StoreError (the file)."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise StoreError(f"{path} is damaged: a text is no UTF-8; {_KEPT}") from error
    except sqlite3.Error as error:
        raise _explain(path, error) from error


def _connect(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}", uri=True, timeout=WAIT_S, isolation_level=None
    )
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    # a file may come from anywhere: what its schema says is not executed, and cells are looked at before they are read
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _checked(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    try:
        schema.check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(HEADER))


def _log(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _explain(path: Path, error: sqlite3.Error) -> Exception:
    # the low byte is the kind, the others say more
    code = getattr(error, "sqlite_errorcode", None)
    kind = None if code is None else code & 0xFF
    if isinstance(error, sqlite3.ProgrammingError):
        return RuntimeError(f"{path} is not open: {error}; open the store again")
    if kind == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, f"cannot write {path}: the disk is full; nothing was half-written, free space")
    if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return OSError(errno.EACCES, f"cannot open {path}: {error}; check that file and folder can be written")
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OSError(errno.EBUSY, f"cannot use {path}: another program holds it; wait for its end")
    if kind == sqlite3.SQLITE_IOERR:
        return OSError(errno.EIO, f"cannot use {path}: {error}; check the disk")
    if kind == sqlite3.SQLITE_NOTADB:
        return StoreError(f"{path} is no store of trials: {error}")
    return StoreError(f"{path} is damaged: {error}; {_KEPT}")
