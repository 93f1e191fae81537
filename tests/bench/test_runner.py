# SPDX-License-Identifier: Apache-2.0
"""Trials that are on disk one by one: what goes on, and what is not mixed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.store import StoreError, load


@dataclass(frozen=True)
class Square:
    of: int
    value: int


@dataclass(frozen=True)
class Setting:
    power: int = 2
    name: str = "squares"


@dataclass(frozen=True)
class Squares:
    setting: Setting
    steps: int
    runs: tuple[Square, ...] = ()

    def page(self) -> str:
        return "".join(f"{run.of}: {run.value}\n" for run in self.runs)


def square(seen: list[int], n: int) -> Square:
    seen.append(n)
    if n == 13:
        raise RuntimeError("thirteen")
    return Square(n, n * n)


def squares(
    path: Path | None, numbers: Sequence[int], *, setting: Setting | None = None, steps: int = 1
) -> tuple[Squares, list[int]]:
    """The report, and the numbers that were really squared."""
    seen: list[int] = []
    trials = [Trial(n, partial(square, seen, n)) for n in numbers]
    report = run_trials("squares", path, Squares(setting or Setting(), steps), trials, lambda run: run.of)
    return report, seen


def test_without_a_path_nothing_is_kept() -> None:
    assert squares(None, (2, 3)) == squares(None, (2, 3))
    assert squares(None, (2, 3))[1] == [2, 3]


def test_what_is_over_is_on_disk_and_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "squares.json"
    with pytest.raises(RuntimeError, match="thirteen"):
        squares(path, (2, 3, 13, 4))
    assert load(path, Squares).runs == (Square(2, 4), Square(3, 9))
    assert path.with_suffix(".md").read_text() == "2: 4\n3: 9\n"
    report, seen = squares(path, (2, 3, 4))
    assert seen == [4]
    assert report == load(path, Squares)
    assert report.runs == (Square(2, 4), Square(3, 9), Square(4, 16))


def test_a_result_is_told_once(tmp_path: Path) -> None:
    told: list[Square] = []
    trial = Trial(2, partial(square, [], 2))
    for _ in range(2):
        run_trials("s", tmp_path / "s.json", Squares(Setting(), 1), [trial], lambda run: run.of, on_run=told.append)
    assert told == [Square(2, 4)]


@pytest.mark.parametrize(
    ("numbers", "setting", "steps", "message"),
    [
        ((2, 3), Setting(power=3), 1, r"another setting \(other power\); repeat its arguments"),
        ((2, 3), None, 2, "another steps: 1, here 2; repeat"),
        ((3, 4), None, 1, "trials that this run does not have, such as 2; repeat"),
    ],
)
def test_what_was_asked_otherwise_is_not_mixed(
    tmp_path: Path, numbers: tuple[int, ...], setting: Setting | None, steps: int, message: str
) -> None:
    path = tmp_path / "squares.json"
    squares(path, (2, 3))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        squares(path, numbers, setting=setting, steps=steps)
    assert path.read_bytes() == before


def test_a_damaged_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "squares.json"
    path.write_text("{")
    with pytest.raises(StoreError, match="move it away"):
        squares(path, (2,))
    assert path.read_text() == "{"


@dataclass(frozen=True)
class Measured:
    machine: Machine
    runs: tuple[Square, ...] = ()

    def page(self) -> str:
        return str(self.machine)


def test_figures_of_two_builds_are_not_mixed(tmp_path: Path) -> None:
    path, here = tmp_path / "s.json", this_machine()
    trials = [Trial(2, partial(square, [], 2))]

    def run(machine: Machine) -> Measured:
        return run_trials("bench squares", path, Measured(machine), trials, lambda run: run.of)

    older = dataclasses.replace(here, build="0123456789ab")
    assert run(older) == run(older)
    before = path.read_bytes()
    message = rf"holds results of bittern \S+ \(build 0123456789ab\), and this is build {here.build}; .* move it away"
    with pytest.raises(ValueError, match=message):
        run(here)
    with pytest.raises(ValueError, match=r"another machine \(other cpu, build\)"):
        run(dataclasses.replace(here, cpu="other"))
    assert path.read_bytes() == before
    without = json.loads(before)
    del without["machine"]["build"]
    path.write_text(json.dumps(without))
    with pytest.raises(StoreError, match=r"Measured\.machine\.build is missing; move it away"):
        run(here)
