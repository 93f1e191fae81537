# SPDX-License-Identifier: Apache-2.0
"""Timing two functions side by side in one process.

A machine's speed drifts: clocks change, neighbours come and go. Two figures taken one after the other differ by that
drift; two taken in turn (A B A B ...) share it, so it cancels in their ratio. The ratio is therefore formed pair by
pair, and its median is the figure; its minimum and maximum say how far to trust it.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

Clock = Callable[[], int]
"""Nanoseconds since some fixed moment."""

PAIRS_LEAST = 3
PAIRS_MOST = 101
SAMPLE_LEAST_NS = 200_000
"""A sample repeats its function until it lasts this long, so that reading the clock (about 0.1 us) does not count."""
NS_PER_US = 1e3
NS_PER_S = 1e9


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, minimum and maximum of some samples."""

    median: float
    min: float
    max: float

    @staticmethod
    def of(samples: Sequence[float]) -> Spread:
        """Raises: ValueError without samples."""
        if not samples:
            raise ValueError("Spread: needs at least one sample; got none")
        return Spread(statistics.median(samples), min(samples), max(samples))

    def scaled(self, factor: float) -> Spread:
        """The spread of the samples times a positive factor. Raises: ValueError."""
        if not factor > 0.0:
            raise ValueError(f"Spread: the factor must be positive, which keeps min below max; got {factor}")
        return Spread(self.median * factor, self.min * factor, self.max * factor)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A candidate and a baseline, sampled in turn."""

    candidate_us: tuple[float, ...]
    """Microseconds per call, one entry per pair."""
    baseline_us: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.candidate_us or len(self.candidate_us) != len(self.baseline_us):
            raise ValueError(
                f"Comparison: needs pairs of samples, at least one; got {len(self.candidate_us)} of the candidate, "
                f"{len(self.baseline_us)} of the baseline"
            )

    @property
    def latency_us(self) -> Spread:
        """Of the candidate."""
        return Spread.of(self.candidate_us)

    @property
    def baseline_latency_us(self) -> Spread:
        return Spread.of(self.baseline_us)

    @property
    def speedup(self) -> Spread:
        """Baseline time / candidate time, pair by pair: above 1 the candidate is faster."""
        return Spread.of([b / c for b, c in zip(self.baseline_us, self.candidate_us, strict=True)])


def compare(
    candidate: Callable[[], object],
    baseline: Callable[[], object],
    *,
    budget_s: float = 2.0,
    settled: bool = False,
    clock: Clock = time.perf_counter_ns,
) -> Comparison:
    """Time two functions in turn for about `budget_s` seconds, after a warm-up of each.

    Between 3 and 101 pairs, however the budget comes out. The garbage collector rests meanwhile. settled: call each
    function once more, untimed, in front of each of its samples, so that it finds the caches as in a loop of its own,
    not as the other function left them.

    Raises: ValueError for a budget that is not positive.
    """
    check_budget(budget_s)
    with _no_garbage_collection():
        loops = [_loops(f, clock) for f in (candidate, baseline)]
        pair_ns = _sample(candidate, loops[0], clock) * loops[0] + _sample(baseline, loops[1], clock) * loops[1]
        pairs = min(PAIRS_MOST, max(PAIRS_LEAST, int(budget_s * NS_PER_S / max(pair_ns, 1.0))))
        samples: tuple[list[float], list[float]] = ([], [])
        for _ in range(pairs):
            for f, n, found in zip((candidate, baseline), loops, samples, strict=True):
                if settled:
                    f()
                found.append(_sample(f, n, clock) / NS_PER_US)
    return Comparison(tuple(samples[0]), tuple(samples[1]))


def take_turns(
    calls: Sequence[Callable[[], object]],
    *,
    budget_s: float,
    before: Callable[[], object] | None = None,
    clock: Clock = time.perf_counter_ns,
) -> tuple[tuple[float, ...], ...]:
    """Microseconds of many functions in turn (A B C A B C ...), one call a sample, about `budget_s` seconds for each.

    Between 3 and 101 rounds, after a warm-up of each. A function that has used its seconds rests while the others go
    on, so sample number i of each is of round i. before: called in front of each sample, untimed. The garbage
    collector rests meanwhile.

    Raises: ValueError for a budget that is not positive, or no function.
    """
    check_budget(budget_s)
    if not calls:
        raise ValueError("take_turns: needs at least one function; got none")
    samples: list[list[float]] = [[] for _ in calls]
    with _no_garbage_collection():
        for call in calls:
            call()
        for round_ in range(PAIRS_MOST):
            going = [i for i, found in enumerate(samples) if len(found) == round_ and _goes_on(found, budget_s)]
            if not going:
                break
            for i in going:
                if before is not None:
                    before()
                samples[i].append(_sample(calls[i], 1, clock) / NS_PER_US)
    return tuple(tuple(found) for found in samples)


def _goes_on(samples_us: Sequence[float], budget_s: float) -> bool:
    """Whether one more sample like the last stays within the budget, or is one of the least number."""
    if len(samples_us) < PAIRS_LEAST:
        return True
    return (sum(samples_us) + samples_us[-1]) * NS_PER_US <= budget_s * NS_PER_S


def check_budget(budget_s: float) -> None:
    """Raises: ValueError for a budget that is not positive."""
    if not budget_s > 0.0:
        raise ValueError(f"timing: budget_s must be positive; got {budget_s}")


def latency(f: Callable[[], object], *, samples: int = 15, clock: Clock = time.perf_counter_ns) -> Spread:
    """Microseconds per call of one function, for figures that need no ratio. Raises: ValueError without samples."""
    with _no_garbage_collection():
        loops = _loops(f, clock)
        return Spread.of([_sample(f, loops, clock) / NS_PER_US for _ in range(samples)])


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch, and the native kernels that follow it, use `threads` threads, and put the setting back.

    Raises: ValueError for less than one thread.
    """
    if threads < 1:
        raise ValueError(f"threads: must be at least 1; got {threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _loops(f: Callable[[], object], clock: Clock) -> int:
    """Warm up, and find how many calls make a sample long enough."""
    f()
    once_ns = max(1.0, _sample(f, 1, clock))
    return max(1, math.ceil(SAMPLE_LEAST_NS / once_ns))


def _sample(f: Callable[[], object], loops: int, clock: Clock) -> float:
    """Nanoseconds per call."""
    started = clock()
    for _ in range(loops):
        f()
    return max((clock() - started) / loops, 1.0 / loops)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
