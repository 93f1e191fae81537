# SPDX-License-Identifier: Apache-2.0
"""Buffers that serve again where they must keep what lies around their values."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from heapq import heappop, heappush


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
