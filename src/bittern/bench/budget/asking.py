# SPDX-License-Identifier: Apache-2.0
"""What a budget is given, and what is left of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bittern.bench.tracks.problem import Problem
from bittern.bench.trials.runner import Told
from bittern.bench.trials.track import Choice, Track

FACTORS = (1 / 3, 1.0, 3.0)
"""Rates that are tried where nobody names some: of the network's own."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What a budget is given. problems: those of the tracks.

    epochs: of the last round, at most; None: `halving.MOST_EPOCHS`. rates: to try; empty: `FACTORS` of each network's
    own. say: hears sentences on the plan, before it is carried out.
    began: `time.monotonic()` when the budget did; None: now.
    """

    seconds: float
    tracks: Sequence[Track]
    problems: Sequence[Problem]
    choice: Choice
    rates: tuple[float, ...] = ()
    epochs: int | None = None
    threads: int = 1
    command: str = ""
    work: Path | None = None
    retry_failed: bool = False
    on_event: Callable[[Told], None] = lambda told: None
    say: Callable[[str], None] = lambda sentence: None
    began: float | None = None


@dataclass(slots=True)
class Clock:
    """Seconds of a budget that are left: since it began here, and those of trials that earlier calls did."""

    budget: float
    lanes: int
    began: float
    before: float = 0.0

    @property
    def spent(self) -> float:
        return time.monotonic() - self.began + self.before

    @property
    def until(self) -> float:
        """Of `time.monotonic`."""
        return self.began + self.budget - self.before

    def charge(self, seconds: Iterable[float], *, alone: bool = False) -> None:
        self.before += sum(seconds) / (1 if alone else self.lanes)
