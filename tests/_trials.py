# SPDX-License-Identifier: Apache-2.0
"""Trials, results and tracks for tests: imported by worker processes too."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from bittern.bench.core.build import this_build
from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.trials.executor import Event, Executor, Job, Lost, Progress, Unusable
from bittern.bench.trials.processes import Processes
from bittern.bench.trials.runner import Told, run
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.track import Choice, Plan, Track, Work
from bittern.bench.trials.trial import TWIN, Done, Result, Trial
from bittern.bench.trials.worker import perform
from bittern.binary import BNN
from bittern.data import digits
from bittern.models import mlp
from bittern.train import Epoch, Recipe, train
from bittern.train.checkpoint import FILE_NAME

COMMAND = "bittern bench run --store all.trials"
this_build()  # known to processes that are forked from one with this module


def trial(seed: int = 0, **changes: object) -> Trial:
    usual = Trial("toy", "digits", "mlp", "BNN", "common", seed, 2, (("batch_size", 50), ("rate", 0.1)))
    return dataclasses.replace(usual, **changes)  # type: ignore[arg-type]


def machine(cpu: str = "tested") -> Machine:
    return dataclasses.replace(this_machine(), cpu=cpu)


def done(one: Trial | None = None, *, accuracy: float = 0.75, cpu: str = "tested", moment: int = 0) -> Done:
    result = Result(
        {"accuracy": accuracy, "loss": -0.0},
        {"train_loss": (2.0, 1.5), "test_accuracy": (0.5, accuracy)},
        {"packed.bittern": bytes(range(256)), "confusion.json": b"[]"},
        ("first", "second: ü"),
    )
    finished = f"2026-01-02T03:04:{moment:02}.000+00:00"
    return Done(trial() if one is None else one, result, machine(cpu), COMMAND, finished, 1.5)


def figure(one: Trial) -> float:
    """In [0, 1), another for each trial."""
    return int(hashlib.sha256(f"figure {one.key}".encode()).hexdigest()[:8], 16) / 2**32


class Toy(Track):
    """A figure that follows from the trial.

    The task "raises" raises, "dies" ends its process, "waits" says in its folder that it began and waits for a file
    "go" there; "dies once" dies at the first try only.
    """

    name = "toy"
    title = "Toy"
    question = "What comes out?"
    metric = "accuracy"

    def plan(self, choice: Choice) -> Plan:
        if unknown := set(choice.networks) - {"mlp"}:
            raise ValueError(f"toy: no network {', '.join(unknown)}; it has mlp")
        tasks = choice.tasks or ("digits",)
        return Plan(
            tuple(
                Trial(self.name, task, "mlp", method, recipe, seed, choice.epochs)
                for task in tasks
                for recipe in choice.recipes
                for method in (TWIN, *choice.methods)
                for seed in choice.seeds
            ),
            ("toy: nothing of colours, for it knows none",),
        )

    def run(self, trial: Trial, work: Work) -> Result:
        tries = work.folder / "tries"
        before = len(tries.read_text()) if tries.exists() else 0
        tries.write_text("x" * (before + 1))
        work.on_progress(0.5, "half")
        if trial.task == "raises":
            raise ArithmeticError("two\nlines")
        if trial.task == "dies" or (trial.task == "dies once" and before == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if trial.task == "waits":
            while not (work.folder / "go").exists():
                time.sleep(0.01)
        curve = tuple(figure(trial) * (e + 1) / trial.epochs for e in range(trial.epochs))
        return Result({"accuracy": figure(trial), "tries": before + 1}, {"test_accuracy": curve}, {"a.bin": b"abc"})

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        return {d.trial.method: d.result.metrics[self.metric] for d in done if d.trial.method != TWIN}


class After(Toy):
    """Each trial needs that of `Toy` with the same method and seed, and finds its figure plus one."""

    name = "after"

    def needs(self, trial: Trial) -> Sequence[Trial]:
        return (dataclasses.replace(trial, track="toy", settings=()),)

    def run(self, trial: Trial, work: Work) -> Result:
        (needed,) = self.needs(trial)
        found = work.needed[needed.key].result
        return Result({"accuracy": found.metrics["accuracy"] + 1, "bytes": len(found.artefacts["a.bin"])})


class Trains(Toy):
    """Trains a small network in its folder, an epoch a checkpoint, and says which epoch it began with.

    Of other tasks than "digits" two begin only when both are there. The task "dies once" ends its process after the
    second epoch, at the first try.
    """

    name = "trains"

    def run(self, trial: Trial, work: Work) -> Result:
        images = digits()
        data = dataclasses.replace(
            images, train_images=images.train_images[:200], train_labels=images.train_labels[:200]
        )
        torch.manual_seed(trial.seed)
        model = mlp(work.methods.get(trial.method), input_size=8, widths=(32, 32))
        resume = (work.folder / FILE_NAME).exists()
        (work.folder / "there").touch()
        end = time.monotonic() + 120
        while not resume and trial.task != "digits" and len(list(work.folder.parent.glob("*/there"))) < 2:
            assert time.monotonic() < end, "the other trial does not begin"
            time.sleep(0.02)
        began: list[int] = []

        def note(row: Epoch) -> None:
            began.append(row.epoch)
            work.on_progress(row.epoch / trial.epochs, f"epoch {row.epoch}")
            if trial.task == "dies once" and not resume and row.epoch == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        recipe = Recipe(epochs=trial.epochs, batch_size=50, seed=trial.seed)
        history = train(model, data, recipe, folder=work.folder, resume=resume, progress=False, on_epoch=note)
        losses = tuple(row.train_loss for row in history.epochs)
        return Result({"accuracy": history.final.test_accuracy, "began": began[0] if began else 0}, {"loss": losses})


class Timed(Toy):
    """Says when it ran."""

    name = "timed"

    def alone(self, trial: Trial) -> bool:
        return True

    def run(self, trial: Trial, work: Work) -> Result:
        began = time.monotonic()
        time.sleep(0.05)
        return Result({"began": began, "ended": time.monotonic(), "accuracy": 0.0})


class Here(Executor):
    """Runs a trial in this process when it is waited for; what is `scripted` for a seed happens instead, in turn."""

    def __init__(self, scripted: Mapping[int, list[str]] | None = None) -> None:
        self.jobs: list[Job] = []
        self.started: list[Trial] = []
        self.scripted = dict(scripted or {})

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *error: object) -> None:
        self.jobs.clear()

    @property
    def lanes(self) -> int:
        return 1

    def accepts(self, alone: bool) -> bool:
        return len(self.jobs) < 2

    def start(self, job: Job) -> None:
        self.jobs.append(job)
        self.started.append(job.trial)

    def wait(self, seconds: float) -> Sequence[Event]:
        if not self.jobs:
            return []
        job = self.jobs.pop(0)
        script = self.scripted.get(job.trial.seed)
        if not script:
            told: list[Event] = []
            end = perform(job, lambda share, words: told.append(Progress(job.trial.key, share, words)))
            return [*told, end]
        kind = script.pop(0)
        if kind == "interrupt":
            self.jobs.append(job)
            raise KeyboardInterrupt
        return [{"lost": Lost, "unusable": Unusable}[kind](job.trial.key, kind)]

    def interrupt(self) -> None:
        self.scripted.clear()


def folder_of(store: Path, one: Trial) -> Path:
    return store.with_name(f"{store.name}.work") / one.key


def drive(path: Path, seeds: int, told: object) -> None:
    """A driver, in a process of its own."""

    def tell(event: Told) -> None:
        told.send(event.over)  # type: ignore[attr-defined]

    choice = Choice({"BNN": BNN}, seeds=tuple(range(seeds)), epochs=2)
    with TrialStore.open(path) as store:
        run((Toy(), After()), choice, store, Here(), command=COMMAND, on_event=tell)


def wait_in_a_process(path: Path) -> None:
    """A driver, in a process of its own, whose trial waits in another."""
    with TrialStore.open(path) as store, Processes(1) as executor:
        choice = Choice({}, seeds=(0,), epochs=2, tasks=("waits",))
        run((Toy(),), choice, store, executor, command=COMMAND)
