# SPDX-License-Identifier: Apache-2.0
"""`bittern bench run`, `quick`, `ls`, `show`, `compare`, `merge` and `export`."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from _command import Command
from _trials import After, Here, Toy, done, trial
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.trial import TWIN, Trial


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy tracks, run in this process."""
    monkeypatch.setattr("bittern.bench.tracks.all.ALL", (Toy, After))
    monkeypatch.setattr("bittern.bench.trials.quick.TRACKS", ("toy",))
    monkeypatch.setattr("bittern.bench.trials.processes.Processes", lambda jobs: Here())


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "all.trials"


SMALL = ("--track", "toy", "--method", "bnn", "--method", "ReCU")


def test_run_goes_on_and_says_what_there_is(command: Command, store: Path) -> None:
    first = command("bench", "run", "--store", store, *SMALL, "--seed", 0)
    assert first.status == 0
    said, beside = first.out.splitlines()
    assert said == f"3 trials: 3 done now, 0 before, 0 failed, 0 not run; see bittern bench compare {store}"
    assert re.fullmatch(r"beside the trials, .* took \d+\.\d s of a processor: \d+\.\d% of the run's \d+ s", beside)
    assert f"[1/3] toy, digits, mlp, {TWIN}, common, seed 0: " in first.err
    assert "left out: toy: nothing of colours" in first.err
    again = command.done("bench", "run", "--store", store, *SMALL)
    assert again.startswith("9 trials: 6 done now, 3 before")
    assert command.done("bench", "run", "--store", store, *SMALL).startswith("9 trials: 0 done now, 9 before")


def test_a_failure_is_shown_and_the_status_says_so(command: Command, store: Path) -> None:
    words = ("bench", "run", "--store", store, "--method", "float", "--seed", 0, "--task", "raises")
    first = command(*words)
    assert first.status == 1
    assert "failed: toy, raises, mlp, float twin, common, seed 0: ArithmeticError: two lines" in first.err
    assert "not run: after, raises, mlp, float twin, common, seed 0: what it needs failed" in first.err
    again = command(*words)
    assert again.status == 1
    assert "--retry-failed does" in again.out
    assert "failed" in command.done("bench", "ls", store)


def test_ctrl_c_is_one_line_and_130(command: Command, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.bench.trials.processes.Processes", lambda jobs: Here({1: ["interrupt"]}))
    outcome = command("bench", "run", "--store", store, *SMALL)
    assert outcome.status == 130
    assert f"bittern: stopped; finished trials are in {store}; the same command goes on" in outcome.err


def test_an_own_method_is_found_where_the_command_starts(
    command: Command, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_bench_method.py").write_text("from bittern.binary import BNN\n\n\nclass Own(BNN):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    command.done("bench", "run", "--store", store, "--track", "toy", "--method", "own_bench_method:Own", "--seed", 0)
    with TrialStore.read(store) as opened:
        assert [d.trial.method for d in opened.done()] == [TWIN, "own_bench_method:Own"]
    assert str(tmp_path) in __import__("sys").path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--track", "to"), "unknown track 'to': did you mean toy?"),
        (("--method", "recoo"), "unknown method 'recoo': did you mean ReCU? ('bittern methods' lists them)"),
        (("--recipe", "papers"), "unknown recipe 'papers': did you mean paper?"),
        (("--jobs", 0), "--jobs must be at least 1; got 0"),
        (("--threads", 0), "--threads must be at least 1; got 0"),
        (("--work", "x"), "--ray-gpus and --work belong to --ray; leave them out, or give --ray"),
        (("--ray", "local", "--jobs", 2), "--jobs counts processes of this machine"),
    ],
)
def test_words_that_cannot_be_understood(
    command: Command, store: Path, words: tuple[object, ...], message: str
) -> None:
    outcome = command("bench", "run", "--store", store, *words)
    assert outcome.status == 2
    assert outcome.error.startswith(message)
    assert not store.exists()


def test_things_that_cannot_be_done(command: Command, store: Path, tmp_path: Path) -> None:
    assert command("bench", "run", "--store", store, "--data", tmp_path / "no").error.startswith("--data: no folder")
    assert "no network vgg; it has mlp" in command("bench", "run", "--store", store, "--network", "vgg").err
    assert "no store of trials at" in command("bench", "ls", tmp_path / "none").error
    (tmp_path / "text").write_text("no store")
    for words in (("ls",), ("compare",), ("show",), ("export", "--out", tmp_path)):
        outcome = command("bench", words[0], tmp_path / "text", *words[1:], *(["0"] if words[0] == "show" else []))
        assert outcome.status == 1
        assert "is no store of trials" in outcome.error
    with TrialStore.open(store):
        refused = command("bench", "run", "--store", store, *SMALL)
    assert refused.err.splitlines()[-1].endswith("give each a store and merge them")


def test_quick_has_every_method(command: Command, store: Path) -> None:
    assert command.done("bench", "quick", "--store", store).startswith("30 trials: 30 done now")


def three_seeds(store: Path) -> Path:
    """Accuracies 0.50, 0.60, 0.70 and, of the twin, 0.9 each; another method has two seeds, another recipe one."""
    with TrialStore.open(store) as opened:
        for seed in range(3):
            opened.add(done(trial(seed, method=TWIN), accuracy=0.9, moment=seed))
            opened.add(done(trial(seed), accuracy=0.5 + 0.1 * seed, moment=seed))
        for seed in range(2):
            opened.add(done(trial(seed, method="ReCU"), accuracy=0.8, moment=seed))
        opened.add(done(trial(0, recipe="paper"), accuracy=1.0, moment=9))
    return store


def test_compare_names_what_was_published(command: Command, store: Path) -> None:
    assert "Published" not in command.done("bench", "compare", three_seeds(store))
    methods = [(TWIN, "common", {}), ("ReCU", "common", {}), ("ReCU", "paper", {"authors_recipe": "1a2b"})]
    with TrialStore.open(store) as opened:
        for i, (method, recipe, settings) in enumerate([*methods, ("mine:New", "common", {})]):
            one = Trial("learning_task", "digits", "resnet20_cifar", method, recipe, 0, 3).having(**settings)
            opened.add(done(one, moment=10 + i))
    out = command.done("bench", "compare", store, "--track", "learning_task")
    assert out.count("learning_task, digits, resnet20_cifar, 3 epochs\n") == 1, "both recipes beside one twin"
    _, published = out.split("Published of these methods")
    lines = [line.split() for line in published.splitlines()]
    figure = ["87.5", "%", "-", "CIFAR-10,", "ResNet-20", "3", "of", "600", "256"]
    assert [line[2:11] for line in lines if line[:1] == ["ReCU"]] == [figure] * 2
    assert ["mine:New", "common", "none", "read", *"------"] in lines


def test_compare_names_builds(command: Command, store: Path) -> None:
    assert "builds of bittern" not in command.done("bench", "compare", three_seeds(store))
    older = done(trial(7), accuracy=0.9)
    with TrialStore.open(store) as opened:
        opened.add(dataclasses.replace(older, machine=dataclasses.replace(older.machine, build="0123456789ab")))
    assert "These trials are of two builds of bittern (bittern" in command.done("bench", "compare", store)
    assert "(build 0123456789ab): 1 trial;" in command.done("bench", "compare", store)


def test_compare_prints_means_deviations_and_what_is_lost(command: Command, store: Path) -> None:
    out = command.done("bench", "compare", three_seeds(store), "--metric", "accuracy")
    lines = [line.split() for line in out.splitlines()]
    assert out.startswith("toy, digits, mlp, 2 epochs, batch_size 50, rate 0.1\n")
    assert ["method", "recipe", "seeds", "accuracy", "accuracy", "-", "twin"] in lines
    assert [*TWIN.split(), "common", "3", "0.9", "±", "0", "-"] in lines
    assert ["BNN", "common", "3", "0.6", "±", "0.1", "-0.3", "±", "0.1"] in lines
    assert ["ReCU", "common", "2", "0.8", "-0.1"] in lines, "two seeds have no deviation"
    assert ["BNN", "paper", "1", "1", "+0.1"] in lines, "beside the twin of the same seed"
    everything = command.done("bench", "compare", store)
    assert "loss" in everything
    assert "loss - twin" not in everything, "the difference is of the track's metric"
    unknown = command("bench", "compare", store, "--metric", "accurac")
    assert unknown.error == "unknown metric 'accurac': did you mean accuracy?"


def test_compare_leaves_out_metrics_that_no_line_holds_and_says_so(command: Command, store: Path) -> None:
    fog = {"fog": 0.25} | {f"fog_{severity}": severity / 8 for severity in range(1, 6)}
    one = done(trial(0))
    result = dataclasses.replace(one.result, metrics={"accuracy": 0.5, **fog, "a": 1.0, "b": 2.0, "z": 3.0})
    with TrialStore.open(store) as opened:
        opened.add(dataclasses.replace(one, result=result))
    out = command.done("bench", "compare", store)
    lines = [line.split() for line in out.splitlines()]
    shown = ("accuracy", "a", "b", "fog", "z", "fog_1")
    assert ["method", "recipe", "seeds", "accuracy", "accuracy", "-", "twin", *shown[1:]] in lines
    assert ["BNN", "common", "1", "0.5", "-", "1", "2", "0.25", "3", "0.125"] in lines
    assert "\nand 4 more, as fog_2, fog_3, fog_4; --metric shows them, export has all\n" in out


def test_show_finds_a_trial_by_the_beginning_of_its_key(command: Command, store: Path, tmp_path: Path) -> None:
    one: Trial = trial(1)
    key = one.key
    out = command.done("bench", "show", three_seeds(store), key[:10], "--save", tmp_path / "saved")
    for line in (f"trial: {one}", f"key: {key}", "batch_size: 50", "accuracy: 0.6", "train_loss: 2 1.5", "note: first"):
        assert line in out.splitlines()
    assert (tmp_path / "saved" / "packed.bittern").read_bytes() == bytes(range(256))
    assert command("bench", "show", store, "xyz").error.startswith("no trial begins with 'xyz'")
    assert command("bench", "show", store, "").status == 2


def test_merge_and_export(command: Command, store: Path, tmp_path: Path) -> None:
    three_seeds(store)
    into = tmp_path / "into"
    assert command.done("bench", "merge", into, store) == f"{into}: 9 results added, 0 were there, 0 failures added\n"
    assert "0 results added, 9 were there" in command.done("bench", "merge", into, store)
    assert "both what is read and what is written" in command("bench", "merge", into, into).error
    refused = command("bench", "merge", tmp_path / "small.trials", store, "--leave-out", "weights.pt").error
    assert "no result has an artefact 'weights.pt'" in refused
    out = command.done("bench", "export", into, "--out", tmp_path / "tables").splitlines()
    assert out[0] == str(tmp_path / "tables" / "trials.csv")
    assert command("bench", "export", into, "--out", tmp_path, "--format", "xml").status == 2


def test_texts_of_a_file_cannot_move_the_cursor(command: Command, store: Path) -> None:
    odd = trial(task="\x1b[2J[red]", method="[bold]\x1b[2J")
    with TrialStore.open(store) as opened:
        opened.add(done(odd))
    for words in (("ls", store), ("compare", store), ("show", store, odd.key)):
        out = command.done("bench", *words)
        assert "\x1b" not in out
        assert "[red]" in out
        assert "[bold]" in out
