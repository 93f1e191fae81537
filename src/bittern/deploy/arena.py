# SPDX-License-Identifier: Apache-2.0
"""Where buffers lie within one stretch of memory, so that those of one time are apart and others share it."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import NamedTuple

MOST_COMPARED = 1000
"""Buffers up to which all are compared with all: beyond it a plan would take longer than a file may."""


class Life(NamedTuple):
    """A buffer that is used from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


class Places(NamedTuple):
    """Where buffers lie."""

    offsets: list[int]
    """Of each, in the order in which they were given."""
    size: int
    """What all together need."""


def placed(lives: Sequence[Life], alignment: int = 1) -> Places:
    """A place for each buffer, whose offset is a multiple of `alignment`: the smaller of two plans.

    One takes the buffers in the order of their first use, one the largest first; each buffer goes into the lowest gap
    that it fits. Which is smaller depends on the network: a wide layer between narrow ones wants to be placed first,
    equal layers one behind the other do not mind.
    """
    plans = [_in_order_of_use(lives, alignment)]
    if len(lives) <= MOST_COMPARED:
        plans.append(_largest_first(lives, alignment))
    return min(plans, key=lambda plan: plan.size)


def _in_order_of_use(lives: Sequence[Life], alignment: int) -> Places:
    """A buffer that is not used any more is forgotten, so the time is in proportion to those of one time."""
    offsets = [0] * len(lives)
    size = earliest = 0
    alive: list[tuple[int, int, int]] = []
    """(offset, end, last use) by offset; `earliest` is the first of these last uses."""
    for index in sorted(range(len(lives)), key=lambda index: lives[index].first):
        life = lives[index]
        if earliest < life.first:
            alive = [buffer for buffer in alive if buffer[2] >= life.first]
            earliest = min((last for *_, last in alive), default=life.last)
        taken = [buffer[:2] for buffer in alive] if len(alive) <= MOST_COMPARED else [(0, size)]
        offset = offsets[index] = _lowest_gap(life.size, taken, alignment)
        insort(alive, (offset, offset + life.size, life.last))
        earliest = min(earliest, life.last)
        size = max(size, offset + life.size)
    return Places(offsets, size)


def _largest_first(lives: Sequence[Life], alignment: int) -> Places:
    offsets = [0] * len(lives)
    size = 0
    done: list[tuple[int, int, Life]] = []
    """(offset, end, life) by offset."""
    for index in sorted(range(len(lives)), key=lambda index: (-lives[index].size, lives[index].first)):
        life = lives[index]
        taken = [(start, end) for start, end, other in done if other.first <= life.last and life.first <= other.last]
        offset = offsets[index] = _lowest_gap(life.size, taken, alignment)
        insort(done, (offset, offset + life.size, life))
        size = max(size, offset + life.size)
    return Places(offsets, size)


def _lowest_gap(size: int, taken: Sequence[tuple[int, int]], alignment: int) -> int:
    """The lowest offset at which so much is free; taken: (start, end) by start."""
    offset = 0
    for start, end in taken:
        if offset + size <= start:
            break
        offset = max(offset, -(-end // alignment) * alignment)
    return offset
