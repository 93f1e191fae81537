# SPDX-License-Identifier: Apache-2.0
"""One trial, in the process that runs it."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bittern._files import InUseError, only_one
from bittern.bench.core.machine import this_machine
from bittern.bench.core.timing import torch_threads
from bittern.bench.trials.executor import SHARED, Finished, Job, Raised, Unusable
from bittern.bench.trials.track import Work

PLACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of the disk: the same trial runs elsewhere, or later."""
LEAVING_S = 60.0
"""How long a process of a driver that was killed may take to see that and leave the trial's folder."""
LONGEST = 1000
"""Characters of an error that are kept."""


def perform(job: Job, tell: Callable[[float, str], None]) -> Finished | Raised | Unusable:
    """Run the trial in its folder, which nobody else has meanwhile. Raises: KeyboardInterrupt."""
    key = job.trial.key
    try:
        with torch_threads(job.threads), _alone_in(job.folder):
            machine = this_machine()
            shared = job.folder.with_name(SHARED)
            work = Work(job.folder, job.methods, job.data, job.threads, job.needed, tell, shared)
            started = time.perf_counter()
            try:
                result = job.track.run(job.trial, work)
            except OSError as error:
                if error.errno in PLACE:
                    raise
                return Raised(key, one_line(error), machine)
            # whatever a trial raises, it is the trial's cell that is marked, and the others go on
            except Exception as error:
                return Raised(key, one_line(error), machine)
            return Finished(key, result, machine, time.perf_counter() - started)
    except OSError as error:
        return Unusable(key, f"{job.trial}: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """Type and message, without an end that nobody reads."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock beside the folder, which is made. Raises: InUseError, OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder.with_name(f"{folder.name}.lock")
    refusal = f"{folder} is in use by another process; end it, or wait for its end"
    end = time.monotonic() + LEAVING_S
    while True:
        held = only_one(lock, refusal)
        try:
            held.__enter__()
            break
        except InUseError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
    try:
        yield
    finally:
        held.__exit__(None, None, None)
