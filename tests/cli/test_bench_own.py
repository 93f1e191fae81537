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
