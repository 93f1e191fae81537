# SPDX-License-Identifier: Apache-2.0
"""A process of this machine that does what its driver says over a connection, and crashes without it.

It ends when its driver does, however that ends. It is the leader of a group of its own, so that Ctrl-C reaches the
driver alone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

CLEAN = "forkserver"
"""A process that has only imported, and forks others of itself; on Linux, for macOS's libraries do not survive that."""


class Child:
    """A process in which `serve` runs, with an end of `connection`.

    imports: modules that are imported once in a process of their own, of which this one is forked: so it begins in a
    tenth of a second with no thread and no state of others. Those of the first such child count. Empty: the process
    begins by itself and imports what it needs, which takes seconds. Never is the driver forked: what its threads hold
    would not survive that.
    """

    def __init__(self, serve: Callable[[Connection], None], name: str, imports: Sequence[str] = ()) -> None:
        clean = bool(imports) and sys.platform == "linux"
        context = multiprocessing.get_context(CLEAN if clean else "spawn")
        if clean:
            context.set_forkserver_preload(list(imports))
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]  # which a base context lacks
            target=_begin, args=(serve, theirs), name=name
        )
        with _without_interrupts():
            self.process.start()
        theirs.close()

    def how(self) -> str:
        """How it ended, in words; waits for that."""
        self.process.join()
        code = self.process.exitcode
        if code is not None and code < 0:
            memory = ", which is what a system without memory does" if code == -signal.SIGKILL else ""
            return f"its process was ended by {signal.Signals(-code).name}{memory}"
        return f"its process ended with status {code}"

    def end(self) -> None:
        """And of all that it started in its group."""
        if self.process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):  # before it leads a group, there is none
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()


def _begin(serve: Callable[[Connection], None], connection: Connection) -> None:
    os.setpgrp()
    threading.Thread(target=_leave_with_driver, daemon=True).start()
    serve(connection)


def _leave_with_driver() -> None:
    """Leave nothing behind that would hold files or processors when the next driver comes."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os.killpg(0, signal.SIGKILL)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that starts meanwhile ignores Ctrl-C until it says otherwise, rather than dying of it half-imported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
