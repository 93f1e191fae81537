# SPDX-License-Identifier: Apache-2.0
"""Planned memory: values that live at the same time never share a byte, others do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bittern.deploy.engine.buffers import ALIGNMENT, Arena, BufferPool


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 8)), max_size=25))
def test_buffers_of_one_time_are_apart(requests: list[tuple[int, int, int]]) -> None:
    arena = Arena()
    placed = []
    for nbytes, first, length in sorted(requests, key=lambda request: request[1]):
        offset = arena.place(nbytes, first, first + length)
        assert offset % ALIGNMENT == 0
        assert offset + nbytes <= arena.size
        for other, size, born, died in placed:
            if born <= first + length and first <= died:
                assert other + size <= offset or offset + nbytes <= other
        placed.append((offset, nbytes, first, first + length))


def test_memory_serves_again() -> None:
    arena = Arena()
    assert [arena.place(100, i, i + 1) for i in range(6)] == [0, 128, 0, 128, 0, 128]
    assert arena.size == 228


def test_a_pool_serves_its_own_form_only() -> None:
    pool = BufferPool()
    assert pool.take("a", 0, 1) == 0
    assert pool.take("a", 1, 3) == 1
    assert pool.take("a", 2, 4) == 0
    assert pool.take("b", 9, 9) == 0
