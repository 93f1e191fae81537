# SPDX-License-Identifier: Apache-2.0
"""The trainings with low-bit states: what a run is, that it resumes, and what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bittern import data
from bittern.bench.optim import training as bench
from bittern.bench.optim.training import Run, TrainingReport
from bittern.models import GPTShape

TEXT = data.characters(data.sample_text(300))
SMALL = bench.gpt_task(TEXT, steps=30, shape=GPTShape(layers=1, width=64, heads=2, context=16), batch=8)


def test_runs_differ_in_storage_alone_and_learn() -> None:
    runs = {storage: bench.train(SMALL, storage, seed=0) for storage in bench.STORAGES}
    first = {run.curve[0] for run in runs.values()}
    assert len(first) == 1  # the first loss comes before the first step
    for run in runs.values():
        assert run.curve[-1] < 0.8 * run.curve[0]
    assert runs["4"].state_bytes < runs["8"].state_bytes < runs["32"].state_bytes
    assert bench.train(SMALL, "4", seed=0) == runs["4"]


def test_a_report_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out = tmp_path / "runs.json"
    told: list[Run] = []
    one = bench.run([SMALL], command="test", out=out, seeds=(0,), on_run=told.append)
    assert [run.storage for run in told] == list(bench.STORAGES)
    two = bench.run([SMALL], command="test", out=out, seeds=(0, 1), on_run=told.append)
    assert len(told) == 2 * len(bench.STORAGES)
    assert two.runs[: len(bench.STORAGES)] == one.runs


def test_other_tasks_run() -> None:
    words = data.characters("".join(data.sample_text(100)))
    for task in (bench.lstm_task(words, steps=2, width=16), *bench.resnet_tasks(data.digits(), steps=1, batch=8)):
        assert bench.train(task, "8", seed=0).value == pytest.approx(bench.train(task, "8", seed=0).value)


def test_the_table_gives_means_and_differences() -> None:
    machine = bench.this_machine()
    runs = [Run("task", "loss", str(bits), seed, value, (1.0, 0.5), 1_000_000 * bits // 8, 20)
            for bits, values in ((32, (1.0, 2.0)), (8, (1.5, 2.5))) for seed, value in enumerate(values)]  # fmt: skip
    page = TrainingReport("bittern bench", machine, tuple(runs)).page()
    assert "| task | 32 | loss | 1.500 | 0.707 | +0.000 | 4.00 MB |" in page
    assert "| task | 8 | loss | 2.000 | 0.707 | +0.500 | 1.00 MB |" in page
    assert "`bittern bench`" in page
    drawing = TrainingReport("bittern bench", machine, tuple(runs)).drawing().decode()
    assert drawing.count("<svg") == 1
    assert "8 bits" in drawing
    every = tuple(Run("task", "loss", storage, 0, 1.0, (1.0, 0.5), 1, 20) for storage in bench.STORAGES)
    drawing = TrainingReport("bittern bench", machine, every).drawing().decode()
    assert "8 bits, stochastic" in drawing
    assert "4 bits, nearest" in drawing
    assert bench.CURVES in page
