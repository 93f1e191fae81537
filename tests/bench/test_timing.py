# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import torch

from _clock import FakeClock
from bittern.bench.core.timing import (
    PAIRS_LEAST,
    PAIRS_MOST,
    Comparison,
    Spread,
    compare,
    latency,
    take_turns,
    torch_threads,
)


def test_ratio_is_formed_pair_by_pair() -> None:
    # the medians alone would give 30 / 2 = 15
    compared = Comparison(candidate_us=(1.0, 2.0, 10.0), baseline_us=(40.0, 30.0, 20.0))
    assert compared.speedup == Spread(median=15.0, min=2.0, max=40.0)
    assert compared.latency_us == Spread(2.0, 1.0, 10.0)
    assert compared.baseline_latency_us == Spread(30.0, 20.0, 40.0)
    compared = Comparison(candidate_us=(1.0, 2.0, 4.0), baseline_us=(8.0, 2.0, 16.0))
    assert compared.speedup == Spread(median=4.0, min=1.0, max=8.0)


def test_drift_cancels_in_the_ratio() -> None:
    # both slow down alike by a factor of 50 during the run
    clock = FakeClock()
    fast = clock.takes("fast", lambda n: 500.0 * (n + 1))
    slow = clock.takes("slow", lambda n: 1500.0 * (n + 1))
    compared = compare(fast, slow, budget_s=0.5, clock=clock)
    assert compared.speedup == Spread(3.0, 3.0, 3.0)
    assert compared.latency_us.max > 5 * compared.latency_us.min


def test_samples_are_taken_in_turn() -> None:
    clock = FakeClock()
    compared = compare(
        clock.takes("a", lambda n: 500.0), clock.takes("b", lambda n: 1000.0), budget_s=0.03, clock=clock
    )
    assert len(compared.candidate_us) == 20  # 30 ms / 1.5 ms
    assert clock.calls[-40:] == ["a", "b"] * 20


def test_a_settled_sample_begins_behind_a_call_of_the_same_function() -> None:
    clock = FakeClock()
    after = {"a": 100.0, "b": 1000.0}

    def us(own: str) -> Callable[[int], float]:
        """Ten times longer behind the other function."""
        return lambda n: after[own] * (1 if clock.calls and clock.calls[-1] == own else 10)

    a, b = clock.takes("a", us("a")), clock.takes("b", us("b"))
    compared = compare(a, b, budget_s=0.03, settled=True, clock=clock)
    assert compared.speedup == Spread(10.0, 10.0, 10.0)
    assert set(compared.candidate_us) == {100.0}
    assert set(compared.baseline_us) == {1000.0}


def test_short_functions_are_repeated_within_a_sample() -> None:
    clock = FakeClock()
    compared = compare(clock.takes("a", lambda n: 2.0), clock.takes("b", lambda n: 1000.0), budget_s=0.012, clock=clock)
    assert set(compared.candidate_us) == {2.0}
    assert clock.calls[-101:] == ["a"] * 100 + ["b"]


@pytest.mark.parametrize(("us", "pairs"), [(1e9, PAIRS_LEAST), (300.0, PAIRS_MOST)])
def test_number_of_pairs_is_bounded(us: float, pairs: int) -> None:
    clock = FakeClock()
    compared = compare(clock.takes("a", lambda n: us), clock.takes("b", lambda n: us), budget_s=1.0, clock=clock)
    assert len(compared.candidate_us) == len(compared.baseline_us) == pairs


def test_latency_of_one_function() -> None:
    clock = FakeClock()
    assert latency(clock.takes("a", lambda n: 1000.0), samples=5, clock=clock) == Spread(1000.0, 1000.0, 1000.0)


def test_real_clock_gives_positive_times() -> None:
    compared = compare(lambda: None, lambda: sum(range(100)), budget_s=0.001)
    assert compared.latency_us.min > 0.0
    assert compared.speedup.min > 0.0


def test_spread() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 10.0]) == Spread(median=2.5, min=1.0, max=10.0)
    assert Spread(2.0, 1.0, 4.0).scaled(0.5) == Spread(1.0, 0.5, 2.0)
    with pytest.raises(ValueError, match="at least one sample"):
        Spread.of([])
    with pytest.raises(ValueError, match="must be positive"):
        Spread(2.0, 1.0, 4.0).scaled(-1.0)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="budget_s must be positive; got 0"):
        compare(lambda: None, lambda: None, budget_s=0.0)
    with pytest.raises(ValueError, match="got 2 of the candidate, 1 of the baseline"):
        Comparison((1.0, 2.0), (1.0,))
    with pytest.raises(ValueError, match="threads: must be at least 1; got 0"), torch_threads(0):
        pass


def test_threads_and_collector_are_put_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before

    seen: list[bool] = []

    def look() -> None:
        seen.append(gc.isenabled())
        if len(seen) > 3:
            raise KeyboardInterrupt

    assert gc.isenabled()
    with pytest.raises(KeyboardInterrupt):
        compare(look, look)
    assert seen == [False] * 4
    assert gc.isenabled()


def test_turns_share_rounds() -> None:
    """The warm-up of each, then a round of both; what has used its seconds rests, three rounds are the least."""
    clock = FakeClock()
    calls = [clock.takes("fast", lambda n: 100.0 + n), clock.takes("slow", lambda n: 4000.0)]
    fast, slow = take_turns(calls, budget_s=0.001, before=clock.takes("before", lambda n: 50.0), clock=clock)
    assert clock.calls[:4] == ["fast", "slow", "before", "fast"]
    assert clock.calls[2:14] == ["before", "fast", "before", "slow"] * 3
    assert slow == (4000.0,) * 3
    # 101 + ... + 109 = 945 us; a tenth of 110 would be more than 1000
    assert fast == tuple(100.0 + n for n in range(1, 10))


def test_turns_are_bounded() -> None:
    clock = FakeClock()
    (found,) = take_turns([clock.takes("a", lambda n: 1.0)], budget_s=1.0, clock=clock)
    assert len(found) == PAIRS_MOST
    with pytest.raises(ValueError, match="needs at least one function"):
        take_turns([], budget_s=1.0)
