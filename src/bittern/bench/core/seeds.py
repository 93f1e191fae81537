# SPDX-License-Identifier: Apache-2.0
"""What repetitions with other seeds say: a mean, its spread, and whether two of them differ beyond it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
"""Of intervals."""
LEAST_SEEDS = 3
"""Below, no ± is shown: two values tell little of a spread."""
MOST_SPREADS = 13.0
"""Student's quantile for `CONFIDENCE` is 12.71 with one degree of freedom and falls from there."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one quantity, from `count` seeds."""

    mean: float
    std: float | None
    """Of one seed: sqrt(sum (x - mean)² / (count - 1)). None for one seed, which says nothing of it."""
    count: int

    @property
    def shown_std(self) -> float | None:
        """What stands behind ±; None where there is nothing to show."""
        return self.std if self.std and self.count >= LEAST_SEEDS else None

    @staticmethod
    def of(values: Sequence[float]) -> Estimate:
        """Raises: ValueError for no values."""
        if not values:
            raise ValueError("Estimate: needs at least one value; got none")
        mean = math.fsum(values) / len(values)
        if len(values) == 1:
            return Estimate(mean, None, 1)
        squares = math.fsum((value - mean) ** 2 for value in values)
        return Estimate(mean, math.sqrt(squares / (len(values) - 1)), len(values))


@dataclass(frozen=True, slots=True)
class Difference:
    """Of two means of separate seeds."""

    mean: float
    half_width: float | None
    """Half of the interval of `CONFIDENCE`; None where a side has one seed."""

    @property
    def beyond_noise(self) -> bool:
        """Whether the interval leaves 0 out. Without an interval nothing is said: False."""
        return self.half_width is not None and abs(self.mean) > self.half_width


def difference(left: Estimate, right: Estimate) -> Difference:
    """left - right, by Welch's interval: d ± t(nu) sqrt(v), v = v1 + v2, v_i = s_i² / n_i.

    nu = v² / (v1² / (n1 - 1) + v2² / (n2 - 1)), the degrees of freedom of Student's t.
    B. L. Welch, The generalization of "Student's" problem when several different population variances are involved,
    1947.
    """
    mean = left.mean - right.mean
    if left.std is None or right.std is None:
        return Difference(mean, None)
    parts = [(one.std**2 / one.count, one.count - 1) for one in (left, right) if one.std]
    variance = math.fsum(part for part, _ in parts)
    if variance == 0.0:
        return Difference(mean, 0.0)
    freedom = variance**2 / math.fsum(part**2 / rest for part, rest in parts)
    return Difference(mean, student_quantile(freedom) * math.sqrt(variance))


def paired(left: Mapping[int, float], right: Mapping[int, float]) -> Estimate | None:
    """Of left - right over the seeds that both have (seed -> value); None where they share none."""
    common = sorted(left.keys() & right.keys())
    return Estimate.of([left[seed] - right[seed] for seed in common]) if common else None


def student_quantile(freedom: float) -> float:
    """t > 0 such that Student's distribution has the share `CONFIDENCE` in [-t, t]. freedom: at least 1.

    With x = sqrt(nu) tan a the density turns into cos(a)^(nu - 1) / B, B = sqrt(pi) Gamma(nu / 2) / Gamma((nu + 1) / 2)
    from -pi / 2 to pi / 2: smooth on a finite interval, so that few nodes integrate it.
    """
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    low, high = 0.0, MOST_SPREADS
    for _ in range(60):
        middle = (low + high) / 2
        half = math.atan(middle / math.sqrt(freedom)) / 2
        share = 2 * half * float(WEIGHTS @ np.cos(half * (NODES + 1)) ** (freedom - 1)) / whole
        low, high = (middle, high) if share < CONFIDENCE else (low, middle)
    return (low + high) / 2
