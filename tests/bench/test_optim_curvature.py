# SPDX-License-Identifier: Apache-2.0
"""The quadratic and the Zipf embedding: runs repeat and resume, the table tells them, and 4-bit states learn."""

from __future__ import annotations

from pathlib import Path

import pytest

from bittern.bench.optim import curvature as bench
from bittern.bench.optim.curvature import CurvatureReport, CurvatureRun
from bittern.bench.optim.training import STORAGES


def test_a_report_goes_on_where_it_stopped(tmp_path: Path) -> None:
    told: list[CurvatureRun] = []
    out = tmp_path / "runs.json"
    one = bench.run(command="bittern bench", out=out, steps=8, seeds=(0,), on_run=told.append)
    assert len(told) == 3 * len(STORAGES)
    two = bench.run(command="bittern bench", out=out, steps=8, seeds=(0, 1), on_run=told.append)
    assert len(told) == 6 * len(STORAGES)
    assert set(one.runs) < set(two.runs)
    assert bench.quadratic(0.1, "4", 0, 8) == next(
        r.value for r in one.runs if r.task.endswith("0.1") and r.storage == "4"
    )


def test_the_table_gives_means_and_deviations() -> None:
    runs = tuple(CurvatureRun("quadratic", "4", seed, value) for seed, value in enumerate((1.0, 2.0, 3.0)))
    page = CurvatureReport("bittern bench", bench.this_machine(), 8, runs).page()
    assert "| 4 | 2 ± 1 |" in page
    assert "`bittern bench`" in page


@pytest.mark.slow
def test_four_bits_reach_what_eight_reach_where_nearest_codes_do_not() -> None:
    """Unlike curvatures in one block, 4,000 steps: 3.9e1 to nearest codes, 5e-4 with 8 bits."""
    assert bench.quadratic(0.0, "4", 0, 4000) < 1e-3
    assert bench.quadratic(0.0, "4, nearest", 0, 4000) > 10
    exact, found, eight = (bench.quadratic(0.1, storage, 0, 4000) for storage in ("32", "4", "8, stochastic"))
    assert abs(found - exact) < 0.15 * exact
    assert abs(eight - exact) < 0.1 * exact


def test_small_curvatures_are_still_seen() -> None:
    """After 1,000 steps exact states have moved every x alike; nearest codes left those of small curvature behind."""
    exact, at_random, nearest = (bench.quadratic(0.0, storage, 0, 1000) for storage in ("32", "4", "4, nearest"))
    assert abs(at_random - exact) < 0.25 * exact
    assert nearest > 2 * exact
