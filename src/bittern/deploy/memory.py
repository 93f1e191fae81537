"""Where values live while a program runs: buffers that share memory when they are not needed at the same time."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

ALIGNMENT = 64
"""Bytes: one cache line."""


@dataclass
class Arena:
    """Offsets of buffers within one stretch of memory, first fit."""

    size: int = 0
    """Bytes that all buffers together need."""
    _placed: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(offset, end, first use, last use)."""

    def place(self, nbytes: int, first: int, last: int) -> int:
        """Offset of a buffer that is used from item `first` to item `last`, both included."""
        offset = 0
        for start, end, born, died in sorted(self._placed):
            together = born <= last and first <= died
            if together and start < offset + nbytes and offset < end:
                offset = -(-end // ALIGNMENT) * ALIGNMENT
        self._placed.append((offset, offset + nbytes, first, last))
        self.size = max(self.size, offset + nbytes)
        return offset


@dataclass
class Shelves:
    """Numbers of buffers that may serve again, among those of the same form.

    For memory that must keep what lies around its values (borders of images): only a value of the very same form may
    follow another.
    """

    _free_from: dict[Hashable, list[int]] = field(default_factory=dict)

    def take(self, form: Hashable, first: int, last: int) -> int:
        """Number, within its form, of a buffer that is free from item `first` on, now taken until `last`."""
        used_until = self._free_from.setdefault(form, [])
        for number, until in enumerate(used_until):
            if until < first:
                used_until[number] = last
                return number
        used_until.append(last)
        return len(used_until) - 1
