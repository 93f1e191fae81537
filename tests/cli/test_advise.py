# SPDX-License-Identifier: Apache-2.0
"""`bittern advise` and `bittern bench report` on a store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import _page_trials as made
from _command import Command
from bittern.bench.trials.store import TrialStore
from bittern.cli import quantities
from bittern.cli.errors import Misused


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trials") / "all.trials"
    with TrialStore.open(path) as trials:
        for done in made.trials(tasks=1):
            trials.add(done)
        trials.add_failed(made.failed())
    return path


def test_advice_is_a_table_and_sentences(command: Command, store: Path) -> None:
    lines = command.done("advise", store, "--bytes", "200kB", "--latency", "0.6 ms").splitlines()
    assert lines[1] == "task 0: 2 choices within 200.0 kB, 600 µs"
    heads = "method network training bits/parameter score seeds bytes ops latency beside the best"
    assert lines[2].split() == heads.split()
    assert lines[4].startswith("BNN      network1   common, 8 epochs")
    assert lines[5].rstrip().endswith("points, worse")
    assert "Best by its mean score: BNN, network1. It is better than each choice below it beyond seed noise" in lines[6]
    assert "Its trials: " in lines[7]


def test_nothing_fits(command: Command, store: Path) -> None:
    out = command.done("advise", store, "--bytes", "20kB", "--task", "task 0")
    assert "task 0: nothing within 20.0 kB" in out
    assert "Nothing that was tried fits. Nearest: " in out
    assert "times the bytes" in out


def test_json_has_trials_and_intervals(command: Command, store: Path) -> None:
    (found,) = json.loads(command.done("advise", store, "--ops", "1M", "--json"))
    assert found["limits"] == {"ops": 1e6}
    assert found["several_builds"] == ""
    best = found["choices"][0]
    assert best["method"] == "BNN"
    assert best["score"]["seeds"] == 3
    assert len(best["trials"][0]) == 64
    assert best["behind_the_best"]["mean"] == 0.0
    assert best["ops"] == pytest.approx(864864.86, abs=0.1)


def test_choices_of_several_builds_are_told(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "builds.trials"
    with TrialStore.open(path) as trials:
        for done in made.trials(tasks=1):
            other = replace(done, machine=replace(done.machine, build="0123456789ab"))
            trials.add(other if done.trial.method == "BNN" else done)
    out = " ".join(command.done("advise", path).split())
    assert "These trials are of two builds of bittern" in out
    (found,) = json.loads(command.done("advise", path, "--json"))
    assert found["several_builds"].startswith("These trials are of two builds")


def test_report_writes_a_page(command: Command, store: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "page.html"
    out = command.done("bench", "report", store, "--out", page)
    assert out.startswith(f"page: {page} (")
    assert "ValueError: layer &#x27;conv1&#x27; pads with 0" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--bytes", "many"], 2, "--bytes must be a size above 0, as in 200kB or 1.5MiB; got 'many'"),
        (["--latency", "2"], 2, "--latency must be a time above 0 with its unit, as in 2ms or 500us; got '2'"),
        (["--ops", "-3"], 2, "--ops must be a number above 0, as in 3e6 or 3M; got '-3'"),
        (["--task", "none"], 1, "advise: nothing was trained for the task none; there are task 0"),
    ],
)
def test_bad_words_are_one_line(command: Command, store: Path, words: list[str], status: int, message: str) -> None:
    outcome = command("advise", store, *words)
    assert (outcome.status, outcome.error) == (status, message)


def test_no_store_is_one_line(command: Command, tmp_path: Path) -> None:
    for words in (("advise", tmp_path / "none"), ("bench", "report", tmp_path / "none", "--out", tmp_path / "page")):
        assert command(*words).status == 1
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [("200", 200), ("200kB", 2e5), ("0.5 MB", 5e5), ("1KiB", 1024), ("1e3", 1000), (".5mib", 2**19), ("1e3kb", 1e6)],
)
def test_sizes(text: str, value: float) -> None:
    assert quantities.bytes_of("--bytes", text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("2ms", 2e-3), ("500us", 5e-4), ("3 µs", 3e-6), ("1.5s", 1.5), ("9ns", 9e-9)]
)
def test_times(text: str, value: float) -> None:
    assert quantities.seconds_of("--latency", text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "0", "0kB", "-1kB", "kB", "1e999", "nan", "1 2", "5 parsecs", "1e", "inf"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(Misused, match=r"--bytes must be a size above 0"):
        quantities.bytes_of("--bytes", text)
