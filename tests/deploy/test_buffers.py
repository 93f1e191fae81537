# SPDX-License-Identifier: Apache-2.0
"""Planned memory: values that live at the same time never share a byte, others do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.deploy import arena
from bittern.deploy.arena import Life, placed
from bittern.deploy.engine.buffers import BufferPool

STEPS = st.integers(0, 20)
LIVES = st.builds(lambda size, first, more: Life(size, first, first + more), st.integers(0, 500), STEPS, STEPS)


@given(st.lists(LIVES, max_size=25), st.sampled_from([1, 16]))
def test_buffers_of_one_time_are_apart(lives: list[Life], alignment: int) -> None:
    offsets, size = placed(lives, alignment)
    for index, (life, offset) in enumerate(zip(lives, offsets, strict=True)):
        assert offset % alignment == 0
        assert 0 <= offset <= size - life.size
        for other, start in zip(lives[:index], offsets[:index], strict=True):
            if other.first <= life.last and life.first <= other.last:
                assert start + other.size <= offset or offset + life.size <= start
    steps = range(max((life.last for life in lives), default=-1) + 1)
    needed = (sum(life.size for life in lives if life.first <= step <= life.last) for step in steps)
    rounded = sum(-(-life.size // alignment) * alignment for life in lives)
    assert max(needed, default=0) <= size <= rounded


@given(st.lists(LIVES, max_size=25))
def test_the_smaller_plan_is_taken(lives: list[Life]) -> None:
    both = arena._in_order_of_use(lives, 1), arena._largest_first(lives, 1)
    assert placed(lives).size == min(plan.size for plan in both)


def test_memory_serves_again() -> None:
    assert placed([Life(100, i, i + 1) for i in range(6)], 64) == ([0, 128, 0, 128, 0, 128], 228)


@pytest.mark.parametrize(
    ("lives", "size"),
    [
        # the wide third begins where both before it still live, unless it is placed first
        ([Life(1, 0, 1), Life(2, 1, 2), Life(3, 2, 3)], 5),
        ([Life(2, 0, 1), Life(1, 1, 2), Life(3, 2, 3)], 4),
    ],
)
def test_what_both_orders_are_for(lives: list[Life], size: int) -> None:
    assert placed(lives).size == size


def test_many_buffers_of_one_time_take_little_time() -> None:
    count = 5 * arena.MOST_COMPARED
    offsets, size = placed([Life(1, index, count) for index in range(count)])
    assert (sorted(offsets), size) == (list(range(count)), count)


def test_a_pool_serves_its_own_form_only() -> None:
    pool = BufferPool()
    assert pool.take("a", 0, 1) == 0
    assert pool.take("a", 1, 3) == 1
    assert pool.take("a", 2, 4) == 0
    assert pool.take("b", 9, 9) == 0
