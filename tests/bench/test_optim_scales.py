# SPDX-License-Identifier: Apache-2.0
"""Where 4 bits stop learning: what differs between the cells, that it resumes, and what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bittern.bench.optim import scales as bench
from bittern.bench.optim.scales import ScaleRun, ScalesReport


def test_the_images_that_choose_a_rate_are_training_images() -> None:
    data = bench.standardized()
    assert data.train.std(0).max() <= 1.0 + 1e-5
    chosen = bench.held_out(data)
    assert len(chosen.train) + len(chosen.test) == len(data.train)
    assert torch.equal(chosen.test, data.train[::5])
    assert torch.equal(chosen.test_labels, data.train_labels[::5])


def test_storages_differ_in_bits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data, groups = bench.standardized(), []
    real = bench.optim.AdamW

    def adamw(params: list[dict[str, object]], **options: float) -> torch.optim.Optimizer:
        groups.append([group["state_bits"] for group in params])
        return real(params, **options)

    monkeypatch.setattr("bittern.bench.optim.scales.optim.AdamW", adamw)
    found = {s.name: bench.accuracy(data, s, 10, 1e-3, 0, steps=1) for s in bench.STORAGES}
    assert groups == [[32, 32], [8, 8], [4, 4], [4, 4], [8, 4]]
    assert len(set(found.values())) == 1  # the first step is computed before any state is stored


def test_a_report_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SPANS", (1, 100))
    monkeypatch.setattr(bench, "RATES", (1e-3, 1e-2))
    out, told = tmp_path / "scales.json", list[ScaleRun]()
    one = bench.run(command="test", out=out, steps=3, seeds=(0,), on_run=told.append)
    assert len(told) == 2 * len(bench.STORAGES)
    two = bench.run(command="test", out=out, steps=3, seeds=(0, 1), on_run=told.append)
    assert len(told) == 4 * len(bench.STORAGES)
    assert set(one.runs) < set(two.runs)


def test_the_table_gives_means_spreads_and_rates() -> None:
    runs = [ScaleRun("4 bits", 100, 0.01, seed, value) for seed, value in enumerate((0.9, 0.8))]
    page = ScalesReport("bittern bench", bench.this_machine(), 5, tuple(runs)).page()
    assert "| 4 bits |  |  | 85.0 ± 7.1 (0.01) |  |  |" in page
    assert "5 steps of 64 images" in page
    assert "`bittern bench`" in page
