# SPDX-License-Identifier: Apache-2.0
"""How running trials are shown: a line for each that is over; what runs now below them, where there is a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from bittern.bench.trials.runner import Told


class Screen:
    """On stderr. `tell` is what a driver calls."""

    def __init__(self) -> None:
        from bittern.cli.screen import screen

        self._console = screen(stderr=True)
        self._status = self._console.status("planning")
        self._running: dict[str, str] = {}
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def say(self, sentence: str) -> None:
        from bittern.cli.screen import printable

        self._console.print(printable(sentence), markup=False, soft_wrap=True)

    def tell(self, told: Told) -> None:
        from bittern.cli.screen import printable

        place = f"[{told.over}/{told.total}]"
        if told.trial is not None:
            key = told.trial.key
            if told.what in ("start", "progress"):
                words = told.words or "begins"
                # some tracks name the trial themselves
                text = words if str(told.trial) in words else f"{told.trial}: {words}"
                self._running[key] = f"{text} ({told.share:.0%})" if told.share else text
            else:
                self._running.pop(key, None)
        if told.what in ("done", "failed", "lost", "stopping"):
            subject = "" if told.trial is None else f"{told.trial}: "
            what = "" if told.what in ("done", "stopping") else f"{told.what}: "
            self._console.print(printable(f"{place} {subject}{what}{told.words}"), markup=False, soft_wrap=True)
        minutes = (time.monotonic() - self._started) / 60
        now = "; ".join(self._running.values()) or "waiting"
        self._status.update(_escaped(printable(f"{place} {minutes:.0f} min; {now}")))


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
