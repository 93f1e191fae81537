# SPDX-License-Identifier: Apache-2.0
"""The memory plan: what lives at the same time never overlaps, and the arena is no larger than it must be by much."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from _c_networks import packed_case
from bittern.deploy.c_export.literals import comment, real
from bittern.deploy.c_export.plan import Plan, Storage, _place, plan, steps_of
from bittern.deploy.c_export.rules import RULES, in_place
from bittern.deploy.c_export.source import Source
from bittern.deploy.shapes import forms_of

LIVES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 6)), max_size=25)
"""(size, first step, steps that it lives on)."""


def overlap(a: Storage, b: Storage) -> bool:
    in_time = a.first <= b.last and b.first <= a.last
    in_space = a.offset < b.offset + b.size and b.offset < a.offset + a.size
    return in_time and in_space


def most_alive(storages: list[Storage]) -> int:
    """Size of what lives at the same time: no plan needs less."""
    return max((sum(s.size for s in storages if s.first <= t.first <= s.last) for t in storages), default=0)


@given(LIVES)
def test_nothing_overlaps(lives: list[tuple[int, int, int]]) -> None:
    storages = [Storage("reals", size, first, first + more) for size, first, more in lives]
    total = _place(storages, "reals")
    for index, storage in enumerate(storages):
        assert 0 <= storage.offset <= total - storage.size
        assert not any(overlap(storage, other) for other in storages[index + 1 :])
    assert most_alive(storages) <= total <= sum(s.size for s in storages)


def plan_of(name: str) -> tuple[Source, Plan]:
    packed, _ = packed_case(name, 2)
    source = Source(forms_of(packed.program, packed.tensors), packed.tensors)
    steps = steps_of(packed.program)
    needs = {step.writes: RULES[step.node.kind].needs(source, step) for step in steps if step.node.kind in RULES}
    return source, plan(packed.program, steps, source.forms, needs, lambda step: in_place(source, step))


@pytest.mark.parametrize("name", ["everything", "residual", "twice", "chain BNN"])
def test_networks_need_little_more_than_what_is_alive(name: str) -> None:
    _, where = plan_of(name)
    unique = {id(s): s for s in (*where.values.values(), *(s for group in where.scratch.values() for s in group))}
    for arena, total in (("reals", where.reals), ("words", where.words)):
        storages = [s for s in unique.values() if s.place == arena]
        assert most_alive(storages) <= total <= 1.25 * most_alive(storages)


def test_a_shortcut_is_added_in_place_and_the_result_goes_to_the_caller() -> None:
    """conv(x) + x needs no third buffer; the caller's input is never written to."""
    _, where = plan_of("twice")
    places = {storage.place for storage in where.values.values()}
    assert where.values[0].place == "input"
    assert places == {"input", "output", "reals", "words"}
    assert sum(s.place == "input" for s in where.values.values()) == 1


def test_literals_read_back() -> None:
    torch.manual_seed(0)
    numbers = torch.cat(
        [torch.randn(200) * 10.0 ** torch.arange(-40, 40).repeat(3)[:200], torch.tensor([0.0, 1.0, -7])]
    )
    for number in numbers[numbers.isfinite()].tolist():
        text = real(number)
        assert text.endswith("f")
        assert {".", "e"} & set(text)
        assert torch.tensor(float(text[:-1])).float() == torch.tensor(number)
    assert (real(3.5e38), real(-3.5e38)) == ("HUGE_VALF", "-HUGE_VALF")


def test_comments_hold_only_harmless_characters() -> None:
    assert comment("layer1.0 (a) [1, 2]") == "layer1.0 (a) [1, 2]"
    assert set(comment("*/\\\n?\u00fc\"'")) == {"_"}
