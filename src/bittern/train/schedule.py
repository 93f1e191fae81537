# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules: a factor in [0, 1] for every step, as a pure function of (step, total).

All begin with a linear warm-up over the first W = round(warmup * total) steps, factor (step + 1) / (W + 1), so that
step W is the first at the full rate. The factor would reach its end at step `total`, one after the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

Schedule = Callable[[int, int], float]
"""(step, total steps) -> factor of the learning rate."""


@dataclass(frozen=True, slots=True)
class Cosine:
    """Warm-up, then (1 + cos(pi u)) / 2 down to 0, u = (step - W) / (total - W) (SGDR without restarts, 1608.03983).

    warmup: share of all steps, in [0, 1). Raises: ValueError.
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup("Cosine", self.warmup)

    def __call__(self, step: int, total: int) -> float:
        rising, u = _warm_up(self.warmup, step, total)
        return rising if rising < 1.0 else (1.0 + math.cos(math.pi * u)) / 2.0


@dataclass(frozen=True, slots=True)
class Linear:
    """Warm-up, then 1 - u down to 0, u = (step - W) / (total - W): Bi-Real Net's and ReActNet's schedule.

    warmup: share of all steps, in [0, 1). Raises: ValueError.
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup("Linear", self.warmup)

    def __call__(self, step: int, total: int) -> float:
        rising, u = _warm_up(self.warmup, step, total)
        return rising if rising < 1.0 else 1.0 - u


@dataclass(frozen=True, slots=True)
class Exponential:
    """Warm-up, then end^u, u = (step - W) / (total - W): BNN's schedule, which ends at `end` times the full rate.

    end: in (0, 1). warmup: share of all steps, in [0, 1). Raises: ValueError.
    """

    end: float
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup("Exponential", self.warmup)
        if not 0.0 < self.end < 1.0:
            raise ValueError(f"Exponential: end is a share of the full rate and must lie in (0, 1); got {self.end}")

    def __call__(self, step: int, total: int) -> float:
        rising, u = _warm_up(self.warmup, step, total)
        return rising if rising < 1.0 else float(self.end**u)


@dataclass(frozen=True, slots=True)
class Steps:
    """Warm-up, then 1 until the first milestone, and the factor of the last milestone that has passed.

    milestones: (share of all steps, factor), the shares rising in (0, 1), the factors in (0, 1]: shares instead of
        epochs, so that a shorter run goes through them all.
    warmup: share of all steps, in [0, 1). Raises: ValueError.
    """

    milestones: tuple[tuple[float, float], ...]
    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup("Steps", self.warmup)
        shares = [share for share, _ in self.milestones]
        if not shares or shares != sorted(set(shares)) or not 0.0 < shares[0] <= shares[-1] < 1.0:
            raise ValueError(f"Steps: milestones need shares of all steps that rise in (0, 1); got {self.milestones}")
        if any(not 0.0 < factor <= 1.0 for _, factor in self.milestones):
            raise ValueError(f"Steps: the factor of each milestone must lie in (0, 1]; got {self.milestones}")

    def __call__(self, step: int, total: int) -> float:
        rising, _ = _warm_up(self.warmup, step, total)
        passed = [factor for share, factor in self.milestones if step >= round(share * total)]
        return rising if rising < 1.0 else (passed[-1] if passed else 1.0)


@dataclass(frozen=True, slots=True)
class Constant:
    """Warm-up, then 1. warmup: share of all steps, in [0, 1). Raises: ValueError."""

    warmup: float = 0.0

    def __post_init__(self) -> None:
        _check_warmup("Constant", self.warmup)

    def __call__(self, step: int, total: int) -> float:
        return _warm_up(self.warmup, step, total)[0]


def _check_warmup(owner: str, warmup: float) -> None:
    if not 0.0 <= warmup < 1.0:
        raise ValueError(f"{owner}: warmup is a share of all steps and must lie in [0, 1); got {warmup}")


def _warm_up(warmup: float, step: int, total: int) -> tuple[float, float]:
    """(factor of the warm-up, 1.0 once it is over; share u in [0, 1) of the rest that is done)."""
    if not 0 <= step < total:
        raise ValueError(f"schedule: step must lie in 0 ... {total - 1}; got {step}")
    # of at most total - 1 steps, so that one step at least runs at the full rate
    steps = min(round(warmup * total), total - 1)
    if step < steps:
        return (step + 1) / (steps + 1), 0.0
    return 1.0, (step - steps) / (total - steps)
