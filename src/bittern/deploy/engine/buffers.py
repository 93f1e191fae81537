# SPDX-License-Identifier: Apache-2.0
"""Where values live while a program runs: buffers that share memory when they are not needed at the same time."""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush

ALIGNMENT = 64
"""Bytes: one cache line."""

MOST_COMPARED = 1000
"""Buffers in use at one time up to which a gap between them is looked for."""


@dataclass
class Arena:
    """Offsets of buffers within one stretch of memory, first fit.

    Buffers are asked for in the order of their first use, so one that is not used any more is forgotten.
    """

    size: int = 0
    """Bytes that all buffers together need."""
    _placed: list[tuple[int, int, int]] = field(default_factory=list)
    """(offset, end, last use) of those in use, by offset."""

    def place(self, nbytes: int, first: int, last: int) -> int:
        """Offset of a buffer that is used from group `first` to group `last`, both included."""
        self._placed = [buffer for buffer in self._placed if buffer[2] >= first]
        offset = 0
        for start, end, _ in self._placed if len(self._placed) <= MOST_COMPARED else ((0, self.size, last),):
            if start < offset + nbytes and offset < end:
                offset = -(-end // ALIGNMENT) * ALIGNMENT
        insort(self._placed, (offset, offset + nbytes, last))
        self.size = max(self.size, offset + nbytes)
        return offset


@dataclass
class BufferPool:
    """Numbers of buffers that may serve again, among those of the same form.

    For memory that must keep what lies around its values (borders of images): only a value of the very same form may
    follow another.
    """

    _taken: dict[Hashable, list[tuple[int, int]]] = field(default_factory=dict)
    """For each form a heap of (last use, number)."""

    def take(self, form: Hashable, first: int, last: int) -> int:
        """Number, within its form, of a buffer that is free from group `first` on, now taken until `last`."""
        taken = self._taken.setdefault(form, [])
        if taken and taken[0][0] < first:
            number = heappop(taken)[1]
        else:
            number = len(taken)
        heappush(taken, (last, number))
        return number
