# SPDX-License-Identifier: Apache-2.0
"""Writing files so that nothing is ever half-written, and by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NEW_FILE = 0o666
"""What a new file is opened with; the system takes away what the umask forbids."""
RANDOM = "[0-9a-z_]{8}"
"""What stands between a file's name and .tmp in the name of its temporary file."""


class InUseError(OSError):
    """Another process holds what only one may have."""


def write_atomically(path: Path, data: bytes | Iterable[bytes | memoryview]) -> None:
    """Write `data`, or its pieces in turn, to a temporary file beside `path`, flush it to disk, rename it to `path`.

    A reader sees the old file or the new one, never a part; when writing fails (disk full, no permission) the
    old file is untouched and the temporary one is removed. A link stays a link: the file that it leads to is written. A
    new file gets the permissions that the umask allows, one that is replaced keeps its own. What writers that were
    killed left beside it is removed.

    Raises: OSError with the path in its message.
    """
    path = Path(os.path.realpath(path))
    try:
        mode = _mode(path)
        remove_leftovers(path)
        temporary, descriptor = _temporary(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}; check the folder") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            # while the lock is held, for it is what keeps other writers from removing the file
            os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = f"cannot write {path}: {error.strerror}; nothing was changed, free space or choose another place"
        raise OSError(error.errno, reason) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(path: Path) -> None:
    """Remove temporary files of `path` whose writers were killed: those that nobody holds locked. Raises: OSError."""
    name = re.compile(rf"\.{re.escape(path.name)}\.{RANDOM}\.tmp")
    for leftover in [found for found in path.parent.iterdir() if name.fullmatch(found.name)]:
        with suppress(FileNotFoundError, PermissionError):
            descriptor = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                if _lock(descriptor):
                    leftover.unlink()
            finally:
                os.close(descriptor)


@contextmanager
def only_one(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock file `path`, which is made, and removed at the end. A process that dies lets go of it.

    Raises: InUseError with the text `refusal` while another process holds it, or another thread of this one; OSError.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, NEW_FILE)
        try:
            if not _lock(descriptor):
                raise InUseError(refusal)
            if _is_at(descriptor, path):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        finally:
            os.close(descriptor)


def _mode(path: Path) -> int | None:
    """Permissions of the file that will be replaced, None where there is none. Raises: OSError for no plain file."""
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(found):
        raise OSError(errno.EINVAL, "it is no plain file")
    return stat.S_IMODE(found)


def _temporary(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, locked as long as its descriptor is open. Raises: OSError."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, NEW_FILE)
        except FileExistsError:
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, temporary):
            return temporary, descriptor
        # another writer took it for a leftover before it was locked
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether the lock could be had at once."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _flush_folder(folder: Path) -> None:
    """Make the rename itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
