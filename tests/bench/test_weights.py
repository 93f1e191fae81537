# SPDX-License-Identifier: Apache-2.0
"""The report of codecs and low-bit weights: that it is complete and survives JSON. Nothing here asserts a speed."""

from __future__ import annotations

import pytest

from bittern.bench.core.store import from_json
from bittern.bench.kernels import weights as bench
from bittern.bench.kernels.weights import Sizes, WeightsReport


@pytest.fixture(scope="module")
def report() -> WeightsReport:
    return bench.run((1,), budget_s=0.001, sizes=Sizes(elements=5000, features=64, batch=3))


def test_every_row_is_there(report: WeightsReport) -> None:
    subjects = [row.subject for row in report.rows]
    for name in ("quantize_blockwise", "dequantize_blockwise", "quantize_4bit NF4", "dequantize_4bit NF4"):
        assert f"{name}, 5,000, 1 thread" in subjects
    for layer in (
        "Linear4bit 64 x 64, float32",
        "Linear4bit 64 x 64, bfloat16",
        "Linear8bit 64 x 64, float32",
        "LinearGroups 64 x 64, int8 inputs, float32",
    ):
        assert f"{layer}, batch 1, 1 thread" in subjects
        assert f"{layer}, batch 3, 1 thread" in subjects
    assert [figure.unit for figure in report.figures] == ["ms", "ms"]


def test_report_survives_json(report: WeightsReport) -> None:
    assert from_json(WeightsReport, report.to_json()) == report
    assert "GMAC/s" in str(report)


def test_bad_budget() -> None:
    with pytest.raises(ValueError, match="budget_s must be positive"):
        bench.run((1,), budget_s=0.0)
