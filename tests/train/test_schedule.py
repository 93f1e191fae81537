# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
import math

import pytest

from bittern.train import Constant, Cosine, Exponential, Linear, Steps
from bittern.train.schedule import Schedule


def test_cosine_without_warm_up() -> None:
    values = [Cosine()(step, 100) for step in range(100)]
    assert values == pytest.approx([(1 + math.cos(math.pi * step / 100)) / 2 for step in range(100)], rel=1e-12)
    assert (values[0], values[50]) == (1.0, 0.5)
    assert 0 < values[99] < 0.001


def test_linear_without_warm_up() -> None:
    assert [Linear()(step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("schedule", [Cosine(0.2), Linear(0.2), Constant(0.2)])
def test_warm_up_rises_to_the_full_rate(schedule: Schedule) -> None:
    values = [schedule(step, 20) for step in range(20)]
    assert values[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert all(a >= b for a, b in itertools.pairwise(values[4:]))


def test_the_rest_of_a_warmed_up_cosine_is_a_whole_cosine() -> None:
    assert [Cosine(0.2)(step + 4, 20) for step in range(16)] == [Cosine()(step, 16) for step in range(16)]


def test_constant() -> None:
    assert {Constant()(step, 7) for step in range(7)} == {1.0}


@pytest.mark.parametrize("kind", [Cosine, Linear, Constant])
def test_even_the_longest_warm_up_ends(kind: type[Cosine]) -> None:
    assert kind(0.99)(9, 10) == 1.0
    assert kind(0.99)(0, 1) == 1.0


@pytest.mark.parametrize("kind", [Cosine, Linear, Constant])
@pytest.mark.parametrize("warmup", [-0.1, 1.0, float("nan")])
def test_refuses_a_warm_up_that_is_no_share(kind: type[Cosine], warmup: float) -> None:
    with pytest.raises(ValueError, match="share of all steps"):
        kind(warmup)


@pytest.mark.parametrize("step", [-1, 10])
def test_refuses_steps_outside_the_run(step: int) -> None:
    with pytest.raises(ValueError, match=r"0 \.\.\. 9"):
        Cosine()(step, 10)


def test_exponential_falls_by_one_factor_each_step() -> None:
    values = [Exponential(1e-4)(step, 8) for step in range(8)]
    assert values == pytest.approx([10 ** (-step / 2) for step in range(8)])
    assert Exponential(0.01, warmup=0.5)(4, 8) == 1.0
    assert Exponential(0.01, warmup=0.5)(6, 8) == pytest.approx(0.1)


def test_steps_keep_their_share_of_any_run() -> None:
    steps = Steps(((0.5, 0.1), (0.75, 0.01)))
    assert [steps(step, 4) for step in range(4)] == [1.0, 1.0, 0.1, 0.01]
    assert [steps(step, 400) for step in (0, 199, 200, 299, 300, 399)] == [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
    assert Steps(((0.5, 0.1),), warmup=0.2)(0, 10) == pytest.approx(1 / 3)


@pytest.mark.parametrize("end", [0.0, 1.0, -1.0, float("nan")])
def test_exponential_refuses_an_end_that_is_no_share(end: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
        Exponential(end)


@pytest.mark.parametrize(
    "milestones", [(), ((0.0, 0.1),), ((1.0, 0.1),), ((0.5, 0.1), (0.5, 0.01)), ((0.6, 0.1), (0.5, 0.01))]
)
def test_steps_refuse_shares_that_do_not_rise(milestones: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="shares of all steps that rise"):
        Steps(milestones)


@pytest.mark.parametrize("factor", [0.0, 1.1, float("nan")])
def test_steps_refuse_factors_that_are_none(factor: float) -> None:
    with pytest.raises(ValueError, match="factor of each milestone"):
        Steps(((0.5, factor),))
