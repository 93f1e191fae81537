# SPDX-License-Identifier: Apache-2.0
"""`bittern bench run --model FILE.py:build --data FILE.py:loaders`."""

from __future__ import annotations

from pathlib import Path

import pytest

from _command import Command
from _own_files import written
from _trials import Here
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.trial import TWIN


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, whose path stays what it was."""
    monkeypatch.setattr("bittern.bench.trials.processes.Processes", lambda jobs: Here())
    monkeypatch.setattr("sys.path", [*__import__("sys").path])


def test_an_own_model_is_run_and_a_changed_file_is_another(command: Command, tmp_path: Path) -> None:
    file, store = written(tmp_path), tmp_path / "all.trials"
    words = ("bench", "run", "--store", store, "--model", f"{file}:build", "--data", f"{file}:sets", "--seed", 0)
    words += ("--method", "bnn", "--epochs", 1, "--track", "learning_task", "--track", "theoretical_complexity")
    first = command(*words)
    assert first.status == 0
    assert f"{file.stem}:build: Hardtanh takes the place of 2 ReLUs, which the float twin has." in first.err
    assert first.out.startswith("4 trials: 4 done now, 0 before, 0 failed")
    assert command.done(*words).startswith("4 trials: 0 done now, 4 before")
    file.write_text(file.read_text() + "# changed\n")
    assert command.done(*words).startswith("4 trials: 4 done now, 0 before")
    with TrialStore.read(store) as opened:
        found = opened.done()
    assert {d.trial.method for d in found} == {TWIN, "BNN"}
    assert len({d.trial.setting("model") for d in found}) == 2
    assert {d.trial.network for d in found} == {f"{file.stem}:build"}


def test_words_of_an_own_model_that_cannot_be_understood(command: Command, tmp_path: Path) -> None:
    file, store = written(tmp_path), tmp_path / "all.trials"
    model, data = ("--model", f"{file}:build"), ("--data", f"{file}:sets")
    for words, status, message in (
        (model, 2, "--model needs --data FILE.py:FUNCTION, a function that returns (training, test)"),
        (data, 1, f"--data: no folder {file}:sets; a function of yours needs --model too"),
        ((*model, *data, "--task", "digits"), 2, "--task and --network name what comes with bittern"),
        (("--model", "build", *data), 2, "--model: 'build' must be FILE.py:NAME or MODULE:NAME"),
        (("--model", f"{file}:bild", *data), 1, f"{file}:bild: {file.stem} has no bild"),
    ):
        outcome = command("bench", "run", "--store", store, *words)
        assert outcome.status == status
        assert outcome.error.startswith(message), outcome.error
    assert not store.exists()


BUDGET = ("--method", "bnn", "--method", "xnornet", "--track", "learning_task", "--track", "theoretical_complexity")
BUDGET += ("--rate", 0.003, "--rate", 0.01, "--epochs", 2, "--budget", "100s")


def test_a_budget_plans_tells_ends_and_goes_on(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, store = written(tmp_path), tmp_path / "all.trials"
    words = ("bench", "run", "--store", store, "--model", f"{file}:build", "--data", f"{file}:sets", *BUDGET)
    monkeypatch.setattr("bittern.bench.trials.processes.Processes", lambda jobs: Here({1: ["interrupt"]}))
    stopped = command(*words)
    assert stopped.status == 130
    plan = [line for line in stopped.err.splitlines() if line.startswith(("Budget", "Round", "Last round"))]
    assert plan[1].startswith(
        "Round 1: 4 trainings of 2 methods at rates 0.003, 0.01 and 2 of the float twin, 1 epoch each, at most "
    )
    assert plan[-1].startswith(
        "Last round: at most 2 methods and the float twin, each at its best rate, seeds 0, 1, 2, 2 epochs each"
    )
    monkeypatch.setattr("bittern.bench.trials.processes.Processes", lambda jobs: Here())
    again = command(*words)
    assert again.status == 0, again.err
    assert [line for line in again.err.splitlines() if line.startswith(("Budget", "Round", "Last round"))] == plan
    assert any(line.startswith("Spent ") and line.endswith(" of 100 s.") for line in again.err.splitlines())
    with TrialStore.read(store) as opened:
        done = opened.done(every_machine=True)
    assert len({one.trial.key for one in done}) == len(done)
    by_track = {track: [d for d in done if d.trial.track == track] for track in {d.trial.track for d in done}}
    assert len(by_track["budget_cost"]) == 3
    assert len(by_track["learning_task"]) == 9
    assert len(by_track["theoretical_complexity"]) == 3
    rates: dict[str, set[object]] = {}
    for one in by_track["learning_task"]:
        rates.setdefault(one.trial.method, set()).add(one.trial.setting("chosen_rate"))
    scores: dict[str, dict[object, float]] = {}
    for one in by_track["budget_search"]:
        scores.setdefault(one.trial.method, {})[one.trial.setting("chosen_rate")] = one.result.metrics["score"]
    for method, (rate,) in rates.items():  # one of each
        assert scores[method][rate] == max(scores[method].values()), "chosen on held-out examples"
    assert "left out: BNN at rate" in command.done("bench", "ls", store)
    command.done("bench", "report", store, "--out", tmp_path / "page.html")
    assert '<h2 id="left-out">What was left out</h2>' in (tmp_path / "page.html").read_text()
    compared = command.done("bench", "compare", store, "--track", "learning_task")
    assert compared.count("learning_task, ") == 1, "one table, whatever the rates are"
    third = command(*words)
    assert "This budget was spent before; a larger one goes on from what the store has." in third.err
    assert " 0 done now" in third.out


def test_a_budget_that_is_too_small_is_one_line(command: Command, tmp_path: Path) -> None:
    file, store = written(tmp_path), tmp_path / "all.trials"
    words = ("bench", "run", "--store", store, "--model", f"{file}:build", "--data", f"{file}:sets")
    small = command(*words, "--method", "bnn", "--budget", "0.1s")
    assert small.status == 1
    (line,) = [line for line in small.err.splitlines() if line.startswith("bittern: ")]
    assert (
        "a budget of 0 s is too small for one method beside the float twin, one seed and one epoch each; give" in line
    )
    for more, message in (
        (("--budget", "3"), "--budget must be a time above 0 with its unit, as in 90s, 30m or 2h; got '3'"),
        (("--rate", 0.1), "--rate names rates that a budget tries; give --budget too"),
    ):
        assert message in command(*words, *more).err
    paper = command(*words, "--budget", "9s", "--recipe", "paper")
    assert "a budget plans trainings by the common recipe; leave out --recipe with --budget" in paper.err
    lacks = command(*words, "--budget", "9s", "--track", "theoretical_complexity")
    assert "a budget plans trainings; give --track learning_task too" in lacks.err
