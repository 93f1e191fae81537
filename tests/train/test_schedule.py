from __future__ import annotations

import itertools
import math

import pytest

from bittern.train import Constant, Cosine, Linear
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
