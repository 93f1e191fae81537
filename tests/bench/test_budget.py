# SPDX-License-Identifier: Apache-2.0
"""Plans within a budget, of made-up costs: pure functions of numbers."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from bittern.bench.budget import record, words
from bittern.bench.budget.halving import (
    Arm,
    Asked,
    Cost,
    Extra,
    Plan,
    TooSmallError,
    best_of_each,
    better_half,
    halvings,
    makespan,
    plan,
)
from bittern.bench.trials.trial import TWIN

RATES = (0.001, 0.003, 0.01)


def asked(methods: str = "ABCDEFGHI", **changes: Any) -> Asked:
    """An epoch takes a second, of every method and the twin; starting and judging one more each."""
    arms = [Arm(method, rate) for method in (*methods, TWIN) for rate in RATES]
    costs = {name: Cost(1.0, 1.0, 1.0) for name in (*methods, TWIN)}
    return dataclasses.replace(Asked(tuple(arms), 0.003, (0, 1, 2), costs), **changes)


def test_a_large_budget_halves_twenty_seven_arms_to_four_methods() -> None:
    found = plan(asked(), 10_000.0)
    assert (found.methods, found.finalists, found.seeds) == (tuple("ABCDEFGHI"), 4, (0, 1, 2))
    assert len(found.rounds) == halvings(27, 4) == 3  # 27, 14, 7, 4
    assert [found.epochs >> n for n in (3, 2, 1)] == list(found.rounds)
    # rounds: (27 + 3)(1 + e0), (14 + 2)(1 + e1), 7(1 + e2), as the twin has one rate left; last 5 of 3 seeds
    worst = 30 * (1 + found.rounds[0]) + 16 * (1 + found.rounds[1]) + 7 * (1 + found.rounds[2])
    worst += 15 * (2 + found.epochs)
    assert found.seconds == pytest.approx(worst)
    assert found.seconds <= 0.9 * 10_000
    assert found.epochs == 200, "the most that is ever asked for"
    assert plan(asked(most_epochs=24), 10_000.0).epochs == 24


def test_the_last_round_gets_as_many_epochs_as_fit() -> None:
    found = plan(asked(), 700.0)
    # at 8 epochs: 30 * 2 + 16 * 3 + 7 * 5 + 15 * 10 = 293; each more epoch adds 15, now and then more
    assert found.epochs > 8
    assert found.seconds <= 630.0
    more = dataclasses.replace(asked(), most_epochs=found.epochs)
    assert plan(more, 700.0) == found
    assert plan(asked(), 700.0 / 0.999) == plan(asked(), 700.0 / 0.999), "numbers in, the same plan out"


def test_what_does_not_fit_goes_in_its_order() -> None:
    def kept(budget: float) -> tuple[int, int, int, int]:
        """Finalists, rates, seeds, methods."""
        found = plan(asked(), budget)
        rates = len({arm.rate for arm in found.arms})
        return found.finalists, rates, len(found.seeds), len(found.methods)

    steps = [kept(budget) for budget in (400.0, 280.0, 230.0, 130.0, 40.0, 25.0, 8.0)]
    assert steps[0] == (4, 3, 3, 9)
    assert steps[-1] == (1, 1, 1, 1)
    weight = [(-methods, -seeds) for _, _, seeds, methods in steps]
    assert weight == sorted(weight), "methods go last, seeds before them"
    assert steps[1] == (4, 1, 3, 9), "rates before seeds"


def test_other_tracks_go_first_and_take_a_third_at_most() -> None:
    names = (*"ABCDEFGHI", TWIN)
    cheap, dear = (Extra(track, dict.fromkeys(names, s)) for track, s in (("cheap", 1.0), ("dear", 60.0)))
    both = asked(extras=(dear, cheap))
    assert plan(both, 10_000.0).extras == ("dear", "cheap")
    found = plan(both, 600.0)
    assert found.extras == ("cheap",), "five times 60 seconds are more than a third"
    assert found.finalists == 4
    out = words.dropped(found, both, 600.0)
    assert [line.partition(":")[0] for line in out] == ["dear"]
    grid = Extra("grid", dict.fromkeys(names, 0.0), trainings=8)
    with_grid = plan(asked(extras=(grid,)), 2000.0)
    alone = plan(asked(most_epochs=with_grid.epochs), 2000.0)
    assert with_grid.seconds - alone.seconds == pytest.approx(5 * 8 * (1 + with_grid.rounds[0]))


def test_the_most_expensive_method_is_dropped_and_named() -> None:
    costs = {**asked("ABC").costs, "B": Cost(1.0, 500.0, 1.0)}
    slow = asked("ABC", costs=costs)
    found = plan(slow, 200.0)
    assert found.methods == ("A", "C")
    (line,) = [line for line in words.dropped(found, slow, 200.0) if line.startswith("B")]
    assert line == "B: 8.3 min an epoch, the most expensive; with it even one seed did not fit."


def test_a_budget_that_is_too_small_names_the_least() -> None:
    # A at one rate and epoch: nothing to halve, the last round of A and the twin takes 2 * 3 seconds
    with pytest.raises(TooSmallError, match=r"a budget of 5 s is too small .* give at least 7s") as caught:
        plan(asked(), 5.0)
    assert caught.value.least == math.ceil(6 / 0.9)
    assert plan(asked(), caught.value.least).seconds == 6.0
    with pytest.raises(TooSmallError):
        plan(asked(), 0.0)


def test_one_method_at_one_rate_has_nothing_to_search() -> None:
    found = plan(asked("A", arms=(Arm("A", 0.003), Arm(TWIN, 0.003))), 100.0)
    assert (found.rounds, found.finalists, found.seeds) == ((), 1, (0, 1, 2))
    assert found.seconds == 6 * (2 + found.epochs) <= 90.0
    one = plan(asked("A"), 1000.0)
    assert len(one.rounds) == 2, "three rates of one method: 3, 2, 1"


def test_rounds_of_as_many_epochs_are_not_paid_twice() -> None:
    found = plan(asked(most_epochs=1), 10_000.0)
    assert (found.epochs, set(found.rounds)) == (1, {1})
    assert found.seconds == 30 * 2 + 15 * 3
    assert any(line.startswith("the doubling") for line in words.dropped(found, asked(most_epochs=1), 10_000.0))
    assert "nothing is trained anew" in " ".join(words.told(found, asked(), 10_000.0, 9_000.0))


def test_trials_beside_each_other_take_less() -> None:
    assert makespan([3.0, 1.0, 2.0], 1) == 6.0
    assert makespan([3.0, 1.0, 2.0], 2) == 3.0
    assert makespan([], 3) == 0.0
    assert plan(asked(lanes=2), 700.0).epochs > plan(asked(), 700.0).epochs


def test_the_better_half_goes_on() -> None:
    arms = [Arm(name, 0.1) for name in "ABCDE"]
    costs = {name: Cost(0.0, cost, 0.0) for name, cost in zip("ABCDE", (3.0, 2.0, 1.0, 1.0, 1.0), strict=True)}

    def kept(*scores: float | None) -> str:
        return "".join(arm.method for arm in better_half(list(zip(arms, scores, strict=True)), costs))

    assert kept(0.1, 0.2, 0.3, 0.4, 0.5) == "EDC", "the larger half of five"
    assert kept(0.5, 0.5, 0.5, 0.5, 0.5) == "CDE", "the cheaper one, then the first"
    assert kept(0.5, None, math.nan, 0.1, None) == "AD", "what failed does not go on"
    assert kept(0.0, None, None, None, None) == "A", "what diverged counts as 0"
    assert kept(None, None, None, None, None) == ""
    assert better_half([(arms[0], 0.1)], costs) == (arms[0],)
    pairs = (Arm("A", 1.0), Arm("A", 2.0), Arm("B", 1.0))
    assert best_of_each(pairs, 4) == (pairs[0], pairs[2])
    assert best_of_each(pairs, 1) == (pairs[0],)


def test_a_plan_is_read_as_it_was_written() -> None:
    from _trials import done

    found = plan(asked(extras=(Extra("grid", dict.fromkeys((*"ABCDEFGHI", TWIN), 0.0), 8),)), 2000.0)
    notes = words.told(found, asked(), 2000.0, 1900.0)
    assert "27 trainings of 9 methods at rates 0.001, 0.003, 0.01 and 3 of the float twin" in notes[1]
    result = record.plan_result(found, 2000.0, 1900.0, [*notes, record.LEFT_OUT + "x: y."])
    one = dataclasses.replace(done(), result=result)
    one = dataclasses.replace(one, trial=dataclasses.replace(one.trial, track=record.PLAN))
    assert record.plan_of(one) == found
    assert record.left_out(one) == ("x: y.",)
    assert isinstance(record.plan_of(one), Plan)
