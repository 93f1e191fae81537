# SPDX-License-Identifier: Apache-2.0
"""Schedules that no call runs at the moment, for the next calls to take: of any Python thread, of any batch size.

A call takes one and gives it back, so there are as many of a kind as ever ran at the same time, not one per thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from bittern.deploy.engine.schedule import Schedule, Way

MOST_KEPT = 64
"""Schedules that are kept."""

MOST_BYTES = 2**28
"""Planned memory that they have together; beyond that only the `ALWAYS_KEPT` last ones stay."""

ALWAYS_KEPT = 4


class IdleSchedules:
    """Lends schedules. Any number of threads may call."""

    def __init__(self) -> None:
        self._last: Schedule | None = None
        """The one that was given back last: most calls are like the call before, and find it at once."""
        self._free: OrderedDict[tuple[Way, int], list[Schedule]] = OrderedDict()
        """The others, by what runs and batch size, the last used ones last."""
        self._count = self._nbytes = 0  # of the others
        self._lock = threading.Lock()

    def take(self, way: Way, batch: int) -> Schedule | None:
        """A schedule that nobody else has until it is given back, or None where one must be made."""
        with self._lock:
            last = self._last
            if last is not None and last.way is way and last.batch == batch:
                self._last = None
                return last
            free = self._free.get((way, batch))
            if not free:
                return None
            self._count -= 1
            self._nbytes -= free[-1].nbytes
            return free.pop()

    def give(self, schedule: Schedule) -> None:
        """Keep a schedule for the next call; those that were not used for longest may go."""
        with self._lock:
            before, self._last = self._last, schedule
            if before is None:
                return
            key = before.way, before.batch
            self._free.setdefault(key, []).append(before)
            self._free.move_to_end(key)
            self._count += 1
            self._nbytes += before.nbytes
            while self._count >= MOST_KEPT or (
                self._nbytes + schedule.nbytes > MOST_BYTES and self._count >= ALWAYS_KEPT
            ):
                self._drop_one()

    def kept(self) -> list[Schedule]:
        """All of them, the one that was given back last at the end."""
        with self._lock:
            others = [schedule for free in self._free.values() for schedule in free]
            return others if self._last is None else [*others, self._last]

    def clear(self) -> None:
        """Give their memory back."""
        with self._lock:
            self._last = None
            self._free.clear()
            self._count = self._nbytes = 0

    def _drop_one(self) -> None:
        oldest = next(iter(self._free))
        if self._free[oldest]:
            self._count -= 1
            self._nbytes -= self._free[oldest].pop().nbytes
        if not self._free[oldest]:
            del self._free[oldest]
