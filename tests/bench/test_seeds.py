# SPDX-License-Identifier: Apache-2.0
"""Means over seeds, and whether they differ, against tables and numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from bittern.bench.core.seeds import Difference, Estimate, difference, paired, student_quantile


def test_estimate_is_mean_and_sample_deviation() -> None:
    # deviations -2, 0, 2: squares 8, over 2
    assert Estimate.of([1.0, 3.0, 5.0]) == Estimate(3.0, 2.0, 3)
    assert Estimate.of([7.0]) == Estimate(7.0, None, 1)
    assert Estimate.of([0.1, 0.1]) == Estimate(0.1, 0.0, 2)
    with pytest.raises(ValueError, match="at least one value"):
        Estimate.of([])


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (10, 2.2281), (30, 2.0423), (1e6, 1.95997)],
)
def test_student_quantile_is_that_of_the_tables(freedom: float, quantile: float) -> None:
    assert student_quantile(freedom) == pytest.approx(quantile, abs=5e-5)


def test_difference_is_welchs_interval() -> None:
    # variances 4 / 2 and 1 / 4: nu = 2.25² / (4 / 1 + 0.0625 / 3) = 1.2591, between t(1) and t(2)
    found = difference(Estimate(5.0, 2.0, 2), Estimate(1.0, 1.0, 4))
    assert found.mean == 4.0
    freedom = 2.25**2 / (4.0 + 0.0625 / 3)
    assert found.half_width == pytest.approx(student_quantile(freedom) * 1.5)
    assert 4.3027 * 1.5 < found.half_width < 12.7062 * 1.5
    assert not found.beyond_noise


def test_equal_spreads_and_counts_have_all_degrees_of_freedom() -> None:
    # s = 0.01, n = 3 on both sides: nu = 4, half width = 2.7764 * 0.01 * sqrt(2 / 3) = 0.02267
    near, far = Estimate(0.90, 0.01, 3), Estimate(0.877, 0.01, 3)
    assert difference(near, far).half_width == pytest.approx(0.02267, abs=1e-5)
    assert difference(near, far).beyond_noise
    assert not difference(near, Estimate(0.88, 0.01, 3)).beyond_noise


def test_one_seed_tells_nothing_and_no_spread_tells_all() -> None:
    assert difference(Estimate(0.9, None, 1), Estimate(0.1, 0.01, 3)) == Difference(0.9 - 0.1, None)
    assert not difference(Estimate(0.9, None, 1), Estimate(0.1, 0.01, 3)).beyond_noise
    assert difference(Estimate(2.0, 0.0, 2), Estimate(1.0, 0.0, 3)).beyond_noise
    assert not difference(Estimate(2.0, 0.0, 2), Estimate(2.0, 0.0, 3)).beyond_noise
    # the side without a spread gives no degrees of freedom
    one_sided = difference(Estimate(2.0, 0.0, 9), Estimate(1.0, 0.3, 3))
    assert one_sided.half_width == pytest.approx(4.3027 * 0.3 / math.sqrt(3), abs=1e-4)


def test_pairs_are_the_seeds_of_both() -> None:
    assert paired({0: 0.9, 1: 0.8, 5: 0.1}, {0: 0.95, 1: 0.86, 7: 0.2}) == Estimate.of([0.9 - 0.95, 0.8 - 0.86])
    assert paired({0: 0.9}, {1: 0.8}) is None
