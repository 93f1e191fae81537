# SPDX-License-Identifier: Apache-2.0
"""The report of the optimizers: that it is complete and its arithmetic right. Nothing here asserts a speed."""

from __future__ import annotations

from math import prod

import pytest
import torch

from bittern import optim
from bittern.bench.core.store import from_json
from bittern.bench.optim import candidates
from bittern.bench.optim import run as bench
from bittern.bench.optim.report import OptimReport
from bittern.bench.optim.run import Sizes
from bittern.ops.optimizer_step import Rule

SMALL = Sizes(one=8192, pieces=5, small=(5000,), models=(("two tensors", ((64, 65), (3,))),))


@pytest.fixture(scope="module")
def report() -> OptimReport:
    torch.manual_seed(0)
    return bench.run((1,), budget_s=0.001, sizes=SMALL, with_peers=False)


def test_every_row_is_there(report: OptimReport) -> None:
    found = [*candidates.ours(), *candidates.halves()]
    assert [row.subject for row in report.rows] == [
        *(f"{c.name}: one tensor, 8,192, {c.bytes_per_param:.1f} B, 1 thread" for c in found),
        "AdamW, 8-bit state: one tensor, 5,000, 16.1 B, 1 thread",
        "AdamW, 4-bit state: one tensor, 5,000, 14.2 B, 1 thread",
        "AdamW, 8-bit state, bfloat16 nearest: one tensor, 5,000, 10.1 B, 1 thread",
        "AdamW, 8-bit state: 5 tensors, together 8,192, 16.1 B, 1 thread",
        "AdamW, 8-bit state: two tensors, 16.1 B, 1 thread",
    ]
    assert [bandwidth.threads for bandwidth in report.bandwidths] == [1]


def test_a_rule_is_compared_with_torchs_own_fused_step(report: OptimReport) -> None:
    by_name = {row.subject.partition(":")[0]: row.baseline for row in report.rows}
    assert by_name["SGD with momentum, 8-bit state"] == "torch SGD fused"
    assert by_name["AdamW with AMSGrad, 8-bit state"] == "torch AdamW fused, amsgrad"
    assert by_name["LAMB, 8-bit state"] == "torch AdamW fused"


def test_peers_are_torch_and_what_is_installed() -> None:
    assert [peer.name for peer in candidates.peers()][:2] == [
        "torch AdamW, for-loop (its default)",
        "torch AdamW, foreach",
    ]


def test_state_bytes_are_counted_from_the_states(report: OptimReport) -> None:
    by_name = {figure.subject: figure for figure in report.figures}
    assert by_name["AdamW, 8-bit state: state"].value == pytest.approx(2 * (1 + 4 / 256))
    assert by_name["Lion, 8-bit state: state"].value == pytest.approx(1 + 4 / 256)


@pytest.mark.parametrize(
    ("rule", "bits", "expected"),
    [
        (Rule.ADAM, 32, 28.0),
        (Rule.ADAM, 8, 16.0625),
        (Rule.LION, 8, 14.03125),
        (Rule.LARS, 8, 22.03125),
        (Rule.LAMB, 8, 26.09375),
    ],
)
def test_bytes_of_a_step(rule: Rule, bits: int, expected: float) -> None:
    assert candidates.step_bytes(rule, bits) == expected


def test_shapes_of_the_models() -> None:
    resnet, gpt = bench.resnet50_shapes(), bench.gpt2_small_shapes()
    assert (len(resnet), sum(map(prod, resnet))) == (161, 25_557_032)
    assert (len(gpt), sum(map(prod, gpt))) == (148, 124_439_808)
    assert [n for (n,) in bench.split(10, 4)] == [3, 3, 2, 2]


def test_transient_memory_is_seen() -> None:
    """16 MiB that are touched and freed again; None where the system does not tell."""
    used = bench.transient_bytes(lambda: torch.ones(4 * 2**20).sum())
    assert used is None or used > 12 * 2**20


def test_report_survives_json(report: OptimReport) -> None:
    assert from_json(OptimReport, report.to_json()) == report
    assert "bytes/param" in str(report)


def test_a_step_changes_the_parameters() -> None:
    params = bench.parameters(((65,),))
    before = params[0].detach().clone()
    optim.AdamW(params).step()
    assert not torch.equal(before, params[0].detach())
