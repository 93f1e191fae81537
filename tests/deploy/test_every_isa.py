# SPDX-License-Identifier: Apache-2.0
"""Packed models at every instruction set that this CPU has: the choice is made per process, so each is a process.

The methods take turns: each set packs three of the nine. Every set packs the grids that do not lie about 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bittern.ops import Isa, available_isas

SCRIPT = """
import sys, torch
from bittern import binary, models, pack, verify
from bittern.ops import chosen_isa
torch.manual_seed(0)
for method in binary.COMPARED[int(sys.argv[1]) % 3 :: 3]:
    model = models.resnet20_cifar(method=method, num_classes=5, in_channels=3, input_size=12)
    batch = torch.randn(3, 3, 12, 12)
    report = verify(pack(model, batch), model, batch)
    print(chosen_isa().label, method.__name__, report.exact and report.logits_identical)
sys.path.insert(0, sys.argv[2])
from _stepped import GRIDS, network
for name in ("w4-a3", "w8-a6-zero-points"):
    model, batch = network(GRIDS[name])
    report = verify(pack(model, batch), model, batch)
    print(chosen_isa().label, name, report.exact and report.logits_identical)
"""


@pytest.mark.parametrize(
    ("turn", "isa"), list(enumerate(available_isas())), ids=lambda value: getattr(value, "label", "")
)
def test_packed_equals_trained(turn: int, isa: Isa) -> None:
    environment = {**os.environ, "BITTERN_ISA": isa.label}
    command = [sys.executable, "-c", SCRIPT, str(turn), str(Path(__file__).parents[1])]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert len(lines) == 5
    assert all(line[0] == isa.label and line[2] == "True" for line in lines), result.stdout
