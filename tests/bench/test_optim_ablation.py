# SPDX-License-Identifier: Apache-2.0
"""The ablation of 8-bit states: what its emulation does, that it resumes, and what the table says."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from bittern import data
from bittern.bench.optim import ablation as bench
from bittern.bench.optim.ablation import AblationReport, AblationRun
from bittern.ops import codebooks

TEXT = data.characters(data.sample_text(300))


def test_codes_of_tensor_and_blocks() -> None:
    table = codebooks.linear()
    x = torch.cat([torch.full((256,), 0.001), torch.ones(256)])
    assert torch.equal(bench.through_codes(x, table, blockwise=True), x)
    assert bench.through_codes(x, table, blockwise=False)[0] == 0
    assert torch.equal(bench.through_codes(table * 3, table, blockwise=False), table * 3)


def test_states_of_large_tensors_are_rounded() -> None:
    large, small = nn.Parameter(torch.randn(64, 64)), nn.Parameter(torch.randn(64))
    optimizer = bench.RoundedAdamW([large, small], codebooks.dynamic_tree, blockwise=True)
    for p in (large, small):
        p.grad = torch.randn_like(p)
    optimizer.step()
    assert large.grad is not None
    assert small.grad is not None
    exact = torch.zeros_like(large).lerp(large.grad, 1 - bench.BETAS[0])
    rounded = bench.through_codes(exact, codebooks.dynamic_tree(), blockwise=True)
    assert torch.equal(optimizer.state[large]["exp_avg"], rounded)
    assert not torch.equal(rounded, exact)
    torch.testing.assert_close(optimizer.state[small]["exp_avg"], 0.1 * small.grad)


def test_every_storage_trains_or_is_said_to_diverge(tmp_path: Path) -> None:
    out = tmp_path / "ablation.json"
    told: list[AblationRun] = []
    first = bench.run(TEXT, command="test", out=out, steps=3, seeds=(0,), on_run=told.append)
    assert len(first.runs) == len(told) == 2 * len(bench.STORAGES)
    assert bench.run(TEXT, command="test", out=out, steps=3, seeds=(0,), on_run=told.append).runs == first.runs
    assert len(told) == len(first.runs)
    page = first.page()
    assert all(f"| {storage.name} |" in page for storage in bench.STORAGES)


def test_the_table_shows_every_seed() -> None:
    losses = {False: (None, 5.0, 7.0), True: (None, None, None)}
    runs = [AblationRun("linear", stable, i, loss) for stable, row in losses.items() for i, loss in enumerate(row)]
    table = AblationReport("bench", bench.this_machine(), 10, tuple(runs)).markdown()
    assert "| linear | diverged, 5.000, 7.000 | diverged, diverged, diverged |" in table
