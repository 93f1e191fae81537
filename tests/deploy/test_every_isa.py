# SPDX-License-Identifier: Apache-2.0
"""Packed models at every instruction set that this CPU has: the choice is made per process, so each is a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bittern.ops import available_isas

SCRIPT = """
import torch
from bittern import binary, models, pack, verify
from bittern.ops import chosen_isa
torch.manual_seed(0)
for method in binary.ALL:
    model = models.resnet20_cifar(method=method, num_classes=5, in_channels=3, input_size=12)
    batch = torch.randn(3, 3, 12, 12)
    report = verify(pack(model, batch), model, batch)
    print(chosen_isa().label, method.__name__, report.exact and report.logits_identical)
"""


@pytest.mark.parametrize("isa", available_isas(), ids=lambda isa: isa.label)
def test_packed_equals_trained(isa: object) -> None:
    environment = {**os.environ, "BITTERN_ISA": isa.label}  # type: ignore[attr-defined]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert len(lines) == 9
    assert all(line[0] == isa.label and line[2] == "True" for line in lines), result.stdout  # type: ignore[attr-defined]
