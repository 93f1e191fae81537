# SPDX-License-Identifier: Apache-2.0
"""The report of the optimizers on a GPU, made on the CPU: that it is complete and its arithmetic right."""

from __future__ import annotations

import pytest
import torch

from bittern.bench.core.store import from_json
from bittern.bench.optim import candidates as optim
from bittern.bench.optim import cuda as optim_cuda
from bittern.bench.optim.cuda import Sizes
from bittern.bench.optim.report import CudaOptimReport

SMALL = Sizes(one=8192, models=(("two tensors", ((64, 65), (3,)), 5.0),))


@pytest.fixture(scope="module")
def report() -> CudaOptimReport:
    torch.manual_seed(0)
    return optim_cuda.run(torch.device("cpu"), budget_s=0.001, sizes=SMALL, with_peers=False)


def test_every_row_is_there(report: CudaOptimReport) -> None:
    adamw, *others = [candidate.name for candidate in optim.ours()]
    assert [(row.subject, row.baseline) for row in report.rows] == [
        (f"{adamw}: one tensor, 8,192", "a copy of as many bytes"),
        (f"{adamw}: one tensor, 8,192", "torch AdamW fused"),
        *((f"{name}: one tensor, 8,192", "torch AdamW fused") for name in others),
        (f"{adamw}: two tensors", "torch AdamW fused"),
    ]
    assert [row.target for row in report.rows] == [0.85, *[None] * (len(others) + 2)]


def test_rates_count_the_bytes_that_a_step_must_move(report: CudaOptimReport) -> None:
    for row, elements in zip((report.rows[0], report.rows[-1]), (8192, 64 * 65 + 3), strict=True):
        assert row.rate == pytest.approx(16.0625 * elements / row.latency_us.median / 1e3)
        assert row.rate is not None
        assert row.of_peak == pytest.approx(row.rate / report.copy_gb_s.max)


def test_targets_against_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch in the place of bitsandbytes."""
    monkeypatch.setattr(optim_cuda, "_peers", lambda: iter([(optim_cuda.PEER, optim.fused_adamw)]))
    rows = optim_cuda.run(torch.device("cpu"), budget_s=0.001, sizes=SMALL).rows
    assert [row.target for row in rows if row.baseline == optim_cuda.PEER] == [None, 5.0]


def test_report_survives_json(report: CudaOptimReport) -> None:
    assert from_json(CudaOptimReport, report.to_json()) == report
    assert "copy" in str(report)


def test_the_tensor_is_whole_blocks() -> None:
    assert optim_cuda.ONE % 1024 == 0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_steps_on_a_gpu() -> None:
    report = optim_cuda.run(torch.device("cuda"), budget_s=0.001, sizes=SMALL)
    assert report.machine.device != "cpu"
    assert all(row.isa == "triton" for row in report.rows)
