# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C between steps instead of inside one."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopRequested(Exception):
    """Ctrl-C was pressed; raised by `InterruptGuard.check` where it is safe to stop."""


class InterruptGuard:
    """While entered, the first Ctrl-C is kept for `check`; a second one interrupts at once.

    Outside the main thread, where Python delivers no signals, and where the process ignores Ctrl-C, nothing changes.
    The handler that was there before is put back at the end.
    """

    def __init__(self) -> None:
        self._requested = False
        self._previous: Any = None

    def __enter__(self) -> Self:
        handled = signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, None)
        if handled and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def check(self) -> None:
        """Raise StopRequested when Ctrl-C was pressed."""
        if self._requested:
            raise StopRequested

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True
