# SPDX-License-Identifier: Apache-2.0
"""The report of the kernels: that it is complete and its arithmetic right. Nothing here asserts a speed."""

from __future__ import annotations

import json
import re

import pytest
import torch

from bittern import binary
from bittern.bench.core.rows import Figure, OpRow
from bittern.bench.core.store import from_json
from bittern.bench.core.timing import Comparison, Spread
from bittern.bench.kernels import groups as ops_groups
from bittern.bench.kernels import run as bench
from bittern.bench.kernels.groups import Grouped
from bittern.bench.kernels.report import OpsReport
from bittern.bench.kernels.run import Sizes
from bittern.ops import Isa, available_isas, chosen_isa

SMALL = Sizes(
    matmul=(8, 16, 65),
    convs=((64, 5), (65, 3)),
    groups=(Grouped(65, 65, 5, 2), Grouped(64, 16, 4)),
    hidden=(65,),
    pack_rows=4,
    copy_elements=1000,
    fp32_side=16,
    imports=1,
)


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def report(told: list[str]) -> OpsReport:
    torch.manual_seed(0)
    return bench.run(1, budget_s=0.001, sizes=SMALL, methods=(binary.BNN, binary.XNORNetPlusPlus), on_row=told.append)


def test_every_row_is_there(report: OpsReport, told: list[str]) -> None:
    chosen = chosen_isa().label
    subjects = [(row.subject, row.isa) for row in report.rows]
    assert subjects == [
        *(("binary_matmul 8x16x65, packing counted", isa.label) for isa in reversed(available_isas())),
        ("binary_matmul 8x16x65", chosen),
        ("binary_conv2d 3x3 64->64 at 5x5", chosen),
        ("binary_conv2d 3x3 64->64 at 5x5, packing counted", chosen),
        ("binary_conv2d 3x3 65->65 at 3x3", chosen),
        ("binary_conv2d 3x3 65->65 at 3x3, packing counted", chosen),
        ("binary_conv2d 3x3 65 in 65 groups at 5x5, stride 2, numbers", chosen),
        ("binary_conv2d 3x3 65 in 65 groups at 5x5, stride 2, signs", chosen),
        ("binary_conv2d 3x3 64 in 16 groups at 4x4, numbers", chosen),
        ("binary_conv2d 3x3 64 in 16 groups at 4x4, signs", chosen),
        ("multibit_matvec W2A2 65x65", chosen),
        ("multibit_matvec W2A2 65x65, quantizing counted", chosen),
        ("multibit_matvec W3A3 65x65", chosen),
        ("multibit_matvec W3A3 65x65, quantizing counted", chosen),
        ("pack_signs fp32, 0 MiB moved", chosen),
        ("ResNet-20 BNN, packed, batch 1", chosen),
        ("ResNet-20 XNORNetPlusPlus, packed, batch 1", chosen),
    ]
    assert [figure.subject for figure in report.figures] == [
        "ResNet-20 BNN, file beyond summary",
        "ResNet-20 XNORNetPlusPlus, file beyond summary",
        "import of bittern beyond torch",
    ]
    assert [peak.isa for peak in report.peaks] == [isa.label for isa in available_isas()]
    assert len(told) == len(report.rows) + 2  # each row, the peaks and the import
    assert report.machine.threads == 1


def test_every_headline_has_its_target() -> None:
    # the sizes that the targets are about
    assert Sizes().matmul == (1024, 1024, 4096)
    assert Sizes().convs == ((64, 56), (128, 28), (256, 14), (512, 7))
    assert bench.MATMUL_TARGETS == {Isa.AVX2: 2.0, Isa.AVX512: 7.0}


def test_targets_stand_on_the_right_rows(report: OpsReport) -> None:
    for row in report.rows:
        if row.subject.startswith("binary_matmul"):
            wanted = bench.MATMUL_TARGETS.get(Isa[row.isa.upper()]) if "packing" in row.subject else None
        elif "groups" in row.subject:
            wanted = ops_groups.DEPTHWISE_TARGETS if "65 groups" in row.subject else ops_groups.GROUPED_TARGETS
            wanted = wanted[row.subject.rpartition(" ")[2]]
        elif row.subject.startswith("multibit_matvec"):
            wanted = {"W2A2": 4.0, "W3A3": 2.5}[row.subject.split()[1]] if "quantizing" in row.subject else None
        elif row.subject.startswith("binary_conv2d"):
            wanted = None if "packing" in row.subject else 6.0
        else:
            wanted = 0.5 if row.subject.startswith("pack_signs") else 1.5
        assert row.target == wanted, row.subject


def test_values_are_sound(report: OpsReport) -> None:
    for row in report.rows:
        for spread in (row.latency_us, row.baseline_latency_us, row.ratio):
            assert 0.0 < spread.min <= spread.median <= spread.max
        assert (row.rate is None) == (row.rate_unit == "")
        assert (row.of_peak is None) == (row.rate is None or "groups" in row.subject or "multibit" in row.subject)


def test_json_round_trip(report: OpsReport) -> None:
    text = report.to_json()
    assert from_json(OpsReport, text) == report
    first = json.loads(text)["rows"][0]
    assert {"latency_us", "baseline_latency_us", "ratio", "target"} <= set(first)


def test_text_names_target_and_measured_value(report: OpsReport) -> None:
    text = str(report)
    for row in report.rows:
        (line,) = [line for line in text.splitlines() if re.match(rf"{re.escape(row.subject)}  +{row.isa} ", line)]
        assert f"{row.ratio.median:.2f}" in line
        if row.target is None:
            assert ">=" not in line
        else:
            assert f">= {row.target:g}" in line
            assert line.split()[-1] in ("yes", "NO")
    assert "<= 16,384 bytes" in text
    assert "<= 0.3 s" in text


def test_reached_follows_the_median() -> None:
    def row(median: float) -> OpRow:
        return OpRow("x", "avx2", "y", *[Spread(median, median, median)] * 3, None, "", None, 2.0)

    machine = bench.this_machine()
    spread = Spread(1.0, 1.0, 1.0)
    figures = (Figure("small", 1.0, "s", 1.0), Figure("large", 1.5, "s", 1.0))
    text = str(OpsReport(machine, spread, spread, (), (row(2.0), row(1.99)), figures))
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("x ")] == ["yes", "NO"]
    assert [line.split()[-1] for line in text.splitlines() if line[:5] in ("small", "large")] == ["yes", "NO"]


def test_rates_are_computed_from_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = Comparison(candidate_us=(2.0, 4.0, 8.0), baseline_us=(8.0, 8.0, 8.0))
    monkeypatch.setattr(bench, "compare", lambda candidate, baseline, budget_s: (candidate(), baseline(), compared)[2])
    row = bench.matmul(Isa.SCALAR, (8, 16, 65), Spread(4.0, 3.0, 5.0), 1.0, packing=True)
    assert row.rate == pytest.approx(8 * 16 * 65 / 4.0 / 1e3)
    assert row.of_peak == pytest.approx(8 * 16 * 65 / 4.0 / 1e3 / 5.0)
    assert row.ratio == Spread(2.0, 1.0, 4.0)
    conv = bench.conv2d(Isa.SCALAR, 64, 5, Spread(4.0, 3.0, 5.0), 1.0, packing=False)
    assert conv.rate == pytest.approx(25 * 64 * 64 * 9 / 4.0 / 1e3)
    packed = bench.packing_rate(4, 1.0)
    elements = 4 * bench.PACK_COLUMNS
    moved, copied = elements * 4 + elements // 8, elements * 8
    assert packed.rate == pytest.approx(moved / 4.0 / 1e3)
    # median of the time ratios 4, 2, 1, times the bytes that each moves
    assert packed.ratio.median == pytest.approx(2.0 * moved / copied)


def test_file_excess_is_the_file_without_what_summary_counts(report: OpsReport) -> None:
    from bittern import deploy
    from bittern.models import resnet20_cifar
    from bittern.nn.summary import summary

    model, x = resnet20_cifar(binary.BNN).eval(), torch.randn(1, 3, 32, 32)
    assert report.figures[0].value == len(deploy.pack(model, x).to_bytes()) - summary(model, x).bytes


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="threads: must be at least 1; got 0"):
        bench.run(0)
    with pytest.raises(ValueError, match="budget_s must be positive"):
        bench.run(1, budget_s=0.0)
