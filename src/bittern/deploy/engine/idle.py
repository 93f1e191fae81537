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
        self._free: OrderedDict[tuple[Way, int], list[Schedule]] = OrderedDict()
        """By what runs and batch size, the last used ones last."""
        self._count = self._nbytes = 0
        self._lock = threading.Lock()

    def take(self, way: Way, batch: int) -> Schedule | None:
        """A schedule that nobody else has until it is given back, or None where one must be made."""
        with self._lock:
            free = self._free.get((way, batch))
            if not free:
                return None
            self._count -= 1
            self._nbytes -= free[-1].nbytes
            return free.pop()

    def give(self, schedule: Schedule) -> None:
        """Keep a schedule for the next call; those that were not used for longest may go."""
        key = schedule.way, schedule.batch
        with self._lock:
            self._free.setdefault(key, []).append(schedule)
            self._free.move_to_end(key)
            self._count += 1
            self._nbytes += schedule.nbytes
            while self._count > MOST_KEPT or (self._nbytes > MOST_BYTES and self._count > ALWAYS_KEPT):
                self._drop_one()

    def clear(self) -> None:
        """Give their memory back."""
        with self._lock:
            self._free.clear()
            self._count = self._nbytes = 0

    def _drop_one(self) -> None:
        oldest = next(iter(self._free))
        if self._free[oldest]:
            self._count -= 1
            self._nbytes -= self._free[oldest].pop().nbytes
        if not self._free[oldest]:
            del self._free[oldest]
