# SPDX-License-Identifier: Apache-2.0
"""`bittern demo` and `bittern bench` as commands; what they run has tests of its own."""

from __future__ import annotations

import html
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from _command import Command
from _demo_result import noisy, sample, with_wrong_row
from bittern import binary, quant
from bittern.bench.demo.result import DemoResult, Settings
from bittern.cli.program import program
from bittern.models import mlp, resnet20_cifar
from bittern.recipes import for_method

Run = Callable[..., DemoResult]


def _fake(monkeypatch: pytest.MonkeyPatch, result: DemoResult) -> list[tuple[Settings, str]]:
    """Let the demo find `result` at once; returns what it was asked for."""
    asked: list[tuple[Settings, str]] = []

    def run(settings: Settings, watcher: Any, *, command: str) -> DemoResult:
        asked.append((settings, command))
        for row in result.rows:
            watcher.training(row.name, 0, 2)
            watcher.training(row.name, 2, 2)
            watcher.epoch(row.name, SimpleNamespace(epoch=1, test_accuracy=0.5))
            watcher.packing(row.name)
            watcher.timing(row.name)
            watcher.done(row)
        return result

    monkeypatch.setattr("bittern.bench.demo.run.run", run)
    return asked


def test_demo_prints_a_table_and_writes_the_report(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _fake(monkeypatch, sample())
    folder = tmp_path / "a folder"
    out = command.done("demo", "--out", folder, "--seed", 3, "--quick", "--threads", 2)
    assert asked == [
        (Settings(seed=3, quick=True, threads=2), f"bittern demo --out '{folder}' --seed 3 --threads 2 --quick")
    ]
    for method in binary.COMPARED:
        (line,) = [line for line in out.splitlines() if line.startswith(f"{method.__name__} ")]
        assert line.rstrip().endswith(" yes")
    assert "9 of 9 packed models give the answers of their training graph" in out
    assert f"report: {folder / 'index.html'}" in out
    assert (folder / "index.html").is_file()


def test_demo_that_is_not_exact_fails(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(monkeypatch, with_wrong_row(sample(), "FDA"))
    outcome = command("demo", "--out", tmp_path)
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1].startswith(
        "bittern: packed models that disagree with their training graph: FDA"
    )
    assert "Not exact: FDA" in (tmp_path / "index.html").read_text()


def test_demo_defaults(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = _fake(monkeypatch, sample())
    command.done("demo")
    assert asked == [(Settings(), "bittern demo")]
    assert (tmp_path / "bittern-report" / "index.html").is_file()


def test_demo_on_a_noisy_machine_tells_no_speed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake(monkeypatch, sample())
    assert "(1.5x)" in command.done("demo", "--out", tmp_path)
    _fake(monkeypatch, noisy(sample()))
    out = command.done("demo", "--out", tmp_path)
    assert "x)" not in out
    assert "The machine was busy with other things: timings that were repeated at once differed by 25%" in out


def test_commands_that_the_demo_prints_work_as_printed(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    out = command.done("demo", "--quick", "--out", folder)
    assert sorted(path.stem for path in (folder / "networks").iterdir()) == sorted(m.__name__ for m in binary.COMPARED)
    assert len(list((folder / "images").glob("*.png"))) == 3
    printed = out.split("beside the report:\n")[1].splitlines()
    assert len(printed) == 5
    for line in printed:
        assert html.escape(line.strip()) in (folder / "index.html").read_text()
        words = shlex.split(line)
        assert words[:3] == [sys.executable, "-m", "bittern.cli"]
        assert command.done(*words[3:])
    done = subprocess.run(printed[0], shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert (folder / "reactnet.c").is_file()


@pytest.mark.parametrize("found", ["the same", "another", "none"])
def test_program_is_named_so_that_the_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str
) -> None:
    started, other = tmp_path / "bin" / "bittern", tmp_path / "other" / "bittern"
    for path in (started, other):
        path.parent.mkdir()
        path.touch(mode=0o755)
    monkeypatch.setenv("PATH", {"the same": str(started.parent), "another": str(other.parent), "none": ""}[found])
    monkeypatch.setattr("sys.argv", [str(started), "demo"])
    assert program() == (["bittern"] if found == "the same" else [str(started)])
    monkeypatch.setattr("sys.argv", ["-c", "demo"])
    assert program() == [sys.executable, "-m", "bittern.cli"]


def test_interrupted_demo(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bittern.bench.demo.run.run", run)
    outcome = command("demo", "--out", tmp_path)
    assert outcome.status == 130
    assert outcome.err.splitlines()[-1] == "bittern: stopped; there is no report yet; run it again"


def test_report_folder_that_is_a_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = command("demo", "--out", tmp_path / "file")
    assert outcome.status == 1
    assert str(tmp_path / "file") in outcome.error


def test_without_matplotlib_it_says_so_before_any_work(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = _fake(monkeypatch, sample())
    monkeypatch.setattr("bittern.bench.core.drawing.find_spec", lambda name: None)
    for words in (("demo",), ("bench", "speed", "--plot", tmp_path / "a.svg")):
        outcome = command(*words)
        assert outcome.status == 1
        assert outcome.error.endswith("draws with matplotlib, which is missing; install it: pip install matplotlib")
    assert asked == []


def test_bench_ops_hands_on_its_options(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Report:
        def to_json(self) -> str:
            return json.dumps({"rows": []})

        def __str__(self) -> str:
            return "a table"

    def run(threads: int, *, budget_s: float, on_row: Callable[[str], None]) -> Report:
        on_row("a row")
        asked.append((threads, budget_s))
        return Report()

    monkeypatch.setattr("bittern.bench.kernels.run.run", run)
    assert command.done("bench", "ops") == "a table\n"
    assert json.loads(command.done("bench", "ops", "--json", "--threads", 2, "--budget", 0.5)) == {"rows": []}
    assert asked == [(1, 2.0), (2, 0.5)]


def test_bench_methods_hands_on_its_options(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(data: Any, **options: Any) -> Any:
        asked.append((data.name, options))
        return SimpleNamespace(page=lambda: "| a table |")

    monkeypatch.setattr("bittern.bench.methods.run.run", run)
    words = ("--data", "digits", "--out", tmp_path, "--method", "float", "--method", "recu", "--seed", 1, "--seed", 2)
    assert command.done("bench", "methods", *words, "--epochs", 7) == "| a table |\n"
    ((name, options),) = asked
    assert name == "digits"
    assert options["methods"] == (None, binary.ReCU)
    assert (options["seeds"], options["epochs"], options["out"]) == ((1, 2), 7, tmp_path)
    assert options["train_size"] <= 1438
    assert (options["network"], options["batch_size"], options["record_of"]) == (resnet20_cifar, None, None)
    words = ("--data", "digits", "--out", tmp_path, "--recipe", "paper", "--model", "mlp", "--batch-size", 64)
    command.done("bench", "methods", *words)
    _, options = asked[1]
    assert (options["network"], options["batch_size"], options["record_of"]) == (mlp, 64, for_method)
    assert options["seeds"] == (0, 1, 2)
    assert options["methods"] == (None, *binary.COMPARED)
    command.done("bench", "methods", "--data", "digits", "--out", tmp_path, "--method", "all")
    assert asked[2][1]["methods"] == (None, *binary.ALL, *(m for m in quant.ALL if m is not quant.BitNet))
