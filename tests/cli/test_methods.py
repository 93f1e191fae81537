# SPDX-License-Identifier: Apache-2.0
"""`bittern methods`."""

from __future__ import annotations

import pytest

from _command import Command
from bittern import binary, quant
from bittern.cli.methods import BARS, SAMPLES, estimator


def test_table_lists_every_method(command: Command) -> None:
    lines = command.done("methods").splitlines()
    known = [method.__name__ for method in (*binary.ALL, *quant.ALL)]
    rows = [line.split()[0] for line in lines if line.split() and line.split()[0] in known]
    assert rows == known
    assert "1602.02830" in lines[2]
    assert "2016" in lines[2]


@pytest.mark.parametrize("method", [*binary.ALL, *quant.ALL])
def test_one_method_is_explained(command: Command, method: type) -> None:
    out = command.done("methods", method.__name__.lower())
    assert "Backward" in out
    assert "Source: " in out
    assert "Latent weights start: " in out
    assert "  read in: arXiv " in out


@pytest.mark.parametrize(
    ("method", "bars"),
    [
        (binary.BNN, "  █████████  "),
        (binary.BiRealNet, "   ▂▄▆█▆▄▂   "),
        (binary.DoReFa, "      █████  "),
        (binary.IRNet, "█" * SAMPLES),
        (quant.TTQ, "█" * SAMPLES),
    ],
)
def test_estimator_as_bars(method: type[binary.BNN], bars: str) -> None:
    assert estimator(method) == bars
    assert set(bars) <= set(BARS)
