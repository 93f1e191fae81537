# SPDX-License-Identifier: Apache-2.0
"""A short run of the fuzzer of files (`make fuzz-files` runs a long one, under sanitizers)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from fuzz_files import file_of, run_seeds, try_file

from _random_programs import draft
from bittern.deploy import FormatError
from bittern.deploy.check import KINDS
from bittern.deploy.packed import from_bytes

PARTS, FILES = 6, 250


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_files_are_refused_or_run(part: int) -> None:
    tally = run_seeds(part * FILES, FILES)
    assert tally.failures == []
    assert tally.files == FILES
    assert tally.ran > FILES // 8


def test_undamaged_ones_run() -> None:
    """Every kind of node is among them."""
    kinds = set()
    for seed in range(300):
        program = draft(seed)
        kinds |= {node[0] for node in program.nodes}
        if program.nodes:
            assert try_file(program.file(), seed), seed
    assert kinds == set(KINDS)


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    assert file_of(3) == file_of(3)
    assert file_of(3) != file_of(4)


def test_it_would_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes, memory_limit: int) -> None:
        raise KeyError("weight")

    monkeypatch.setattr("fuzz_files.from_bytes", broken)
    assert run_seeds(0, 3).failures[2].startswith("seed 2: KeyError: 'weight'")
    with pytest.raises(FormatError):
        from_bytes(b"")
