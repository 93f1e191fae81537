# SPDX-License-Identifier: Apache-2.0
"""The driver: everything once, in order, whatever happens to processes and to itself."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from _trials import COMMAND, After, Here, Timed, Toy, Trains, drive, figure, folder_of, wait_in_a_process
from bittern.bench.trials.executor import Executor, Finished, Job, Lost, Stopped
from bittern.bench.trials.order import in_order
from bittern.bench.trials.processes import Processes
from bittern.bench.trials.runner import Summary, Told, carry_out, run, work_folder
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.track import Choice, Track, Work
from bittern.bench.trials.trial import TWIN, Result, Trial
from bittern.binary import BNN, ReCU

CHOICE = Choice({"BNN": BNN, "ReCU": ReCU}, seeds=(0, 1), epochs=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "all.trials"


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2) as executor:
        yield executor


def go(
    path: Path, *tracks: Track, choice: Choice = CHOICE, executor: Executor | None = None, **more: object
) -> Summary:
    with TrialStore.open(path) as store:
        executor = Here() if executor is None else executor
        return run(tracks, choice, store, executor, command=COMMAND, **more)


def test_what_the_store_has_is_not_run_again(path: Path) -> None:
    told: list[Told] = []
    first = go(path, Toy(), choice=dataclasses.replace(CHOICE, seeds=(0,)), on_event=told.append)
    assert (first.total, first.known, first.done, first.failed) == (3, 0, 3, ())
    assert first.dropped == ("toy: nothing of colours, for it knows none",)
    assert [t.what for t in told] == [*["start"] * 2, "progress", "done", "start", *["progress", "done"] * 2]
    executor = Here()
    second = go(path, Toy(), executor=executor)
    assert (second.total, second.known, second.done) == (6, 3, 3)
    assert [one.seed for one in executor.started] == [1, 1, 1]
    with TrialStore.read(path) as store:
        for one in store.done():
            assert one.result.metrics == {"accuracy": figure(one.trial), "tries": 1}
            assert one.command == COMMAND
    assert not work_folder(path).exists()


def test_nothing_begins_when_the_time_is_over(path: Path) -> None:
    executor, order = Here(), in_order((After(),), CHOICE, (Toy(), After()))
    with TrialStore.open(path) as store:
        summary = carry_out(order, CHOICE, store, executor, command=COMMAND, until=time.monotonic())
    assert executor.started == []
    assert (summary.done, len(summary.late), summary.blocked) == (0, summary.total, ())


def test_needed_trials_come_first(path: Path) -> None:
    executor = Here()
    summary = go(path, After(), executor=executor, known=(Toy(), After()))
    assert summary.done == 12
    places = {(one.track, one.method, one.seed): i for i, one in enumerate(executor.started)}
    assert all(places["toy", *rest] < place for (track, *rest), place in places.items() if track == "after")
    with TrialStore.read(path) as store:
        found = {(d.trial.track, d.trial.method, d.trial.seed): d.result.metrics for d in store.done()}
    assert found["after", "BNN", 1] == {"accuracy": found["toy", "BNN", 1]["accuracy"] + 1, "bytes": 3}


def test_needs_that_cannot_be_met_are_refused() -> None:
    class Circle(Toy):
        name = "toy"

        def needs(self, trial: Trial) -> tuple[Trial, ...]:
            return (dataclasses.replace(trial, track="after"),)

    with pytest.raises(ValueError, match="toy, digits, mlp, float twin, common, seed 0 needs itself"):
        in_order((Circle(), After()), CHOICE)
    with pytest.raises(ValueError, match="needs track 'toy', which is not known"):
        in_order((After(),), CHOICE)


def test_a_track_without_the_chosen_network_is_left_out_aloud() -> None:
    class Other(Toy):
        name = "other"

        def plan(self, choice: Choice) -> object:  # type: ignore[override]
            raise ValueError("other: no network mlp")

    order = in_order((Toy(), Other()), CHOICE)
    assert len(order.trials) == 6
    assert "other is left out: other: no network mlp" in order.dropped
    with pytest.raises(ValueError, match="no network vgg"):
        in_order((Toy(),), dataclasses.replace(CHOICE, networks=("vgg",)))


def test_a_trial_that_raises_is_marked_and_not_repeated(path: Path) -> None:
    choice = dataclasses.replace(CHOICE, tasks=("raises",), methods={}, seeds=(0,))
    summary = go(path, After(), choice=choice, known=(Toy(), After()))
    assert [f.error for f in summary.failed] == ["ArithmeticError: two lines"]
    assert [t.track for t in summary.blocked] == ["after"]
    with TrialStore.read(path) as store:
        assert store.failed() == summary.failed
    executor = Here()
    again = go(path, After(), choice=choice, known=(Toy(), After()), executor=executor)
    assert (executor.started, again.failed, again.failed_before) == ([], (), summary.failed)
    assert len(again.blocked) == 1
    (failed,) = summary.failed
    assert (folder_of(path, failed.trial) / "tries").read_text() == "x"
    retried = go(path, Toy(), choice=choice, retry_failed=True)
    assert len(retried.failed) == 1
    assert (folder_of(path, failed.trial) / "tries").read_text() == "x", "a retry starts anew"


def test_a_lost_process_costs_a_try_and_three_the_trial(path: Path) -> None:
    choice = dataclasses.replace(CHOICE, methods={}, seeds=(0, 1, 2))
    executor = Here({0: ["lost", "lost"], 1: ["lost", "lost", "lost"]})
    summary = go(path, Toy(), choice=choice, executor=executor)
    assert summary.done == 2
    assert [f.error for f in summary.failed] == ["lost 3 times: lost"]
    assert [one.seed for one in executor.started].count(0) == 3


def test_a_place_that_fails_stops_the_run_and_marks_nothing(path: Path) -> None:
    choice = dataclasses.replace(CHOICE, methods={}, seeds=(0, 1, 2))
    with pytest.raises(OSError, match="bench run: unusable; what was done is kept, and the same command goes on"):
        go(path, Toy(), choice=choice, executor=Here({1: ["unusable"]}))
    with TrialStore.read(path) as store:
        assert store.failed() == ()
        assert {d.trial.seed for d in store.done()} >= {0}
    assert go(path, Toy(), choice=choice).failed == ()


def test_a_result_that_no_store_holds_is_a_failure(path: Path) -> None:
    class Bad(Toy):
        def run(self, trial: Trial, work: object) -> Result:  # type: ignore[override]
            return Result({"accuracy": 1.0}, artefacts={"../up": b""})

    summary = go(path, Bad(), choice=dataclasses.replace(CHOICE, methods={}, seeds=(0,)))
    assert "plain file name" in summary.failed[0].error


def test_ctrl_c_keeps_what_comes_to_its_end(path: Path) -> None:
    told: list[Told] = []
    with pytest.raises(KeyboardInterrupt):
        go(path, Toy(), executor=Here({1: ["interrupt"]}), on_event=told.append)
    assert "stopping" in [t.what for t in told]
    with TrialStore.read(path) as store:
        assert len(store.done()) == 3, "one before, and the two that ran"


class Shares(Toy):
    """Trials add a line to a file of theirs all."""

    def run(self, trial: Trial, work: Work) -> Result:
        assert work.shared is not None
        work.shared.mkdir(exist_ok=True)
        with (work.shared / "lines").open("a") as file:
            file.write("x")
        return Result({"accuracy": float((work.shared / "lines").stat().st_size)})


def test_a_folder_of_all_trials_goes_with_the_run(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go(path, Shares(), executor=Here({1: ["interrupt"]}))
    assert (work_folder(path) / "shared" / "lines").exists(), "a run that is stopped goes on with it"
    go(path, Shares())
    assert not work_folder(path).exists()
    with TrialStore.read(path) as store:
        assert sorted(one.result.metrics["accuracy"] for one in store.done()) == [1.0 + i for i in range(6)]


def test_processes_train_beside_each_other_and_go_on_after_a_crash(path: Path, processes: Processes) -> None:
    choice = Choice({}, seeds=(0,), epochs=4, tasks=("straight", "dies once"))
    told: list[Told] = []
    summary = go(path, Trains(), choice=choice, executor=processes, on_event=told.append)
    assert (summary.done, summary.failed) == (2, ())
    assert [t.words for t in told if t.what == "lost"] == [
        "its process was ended by SIGKILL, which is what a system without memory does"
    ]
    with TrialStore.read(path) as store:
        found = {d.trial.task: d.result for d in store.done()}
    straight, crashed = found["straight"], found["dies once"]
    assert straight.metrics["began"] == 1
    assert crashed.metrics["began"] == 3, "from its last checkpoint, not from epoch 1"
    assert crashed.curves == straight.curves
    assert crashed.metrics["accuracy"] == straight.metrics["accuracy"]
    assert not work_folder(path).exists()


def test_trials_that_measure_time_run_alone(path: Path, processes: Processes) -> None:
    go(path, Toy(), Timed(), executor=processes)
    with TrialStore.read(path) as store:
        spans = sorted(
            (d.result.metrics["began"], d.result.metrics["ended"]) for d in store.done() if d.trial.track == "timed"
        )
    assert len(spans) == 6
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert processes.accepts(alone=True)


def test_an_interrupted_process_says_so(path: Path) -> None:
    waits = Job(Toy(), Trial("toy", "waits", "mlp", "BNN", "", 0, 1), path / "w", {}, None, 1, {})
    with Processes(1) as executor:
        executor.start(waits)
        executor.interrupt()  # while it is being imported
        assert executor.wait(0) == [Stopped(waits.trial.key)]
        executor.start(waits)
        events = []
        while not events:
            events += executor.wait(1)
        executor.interrupt()
        while not any(isinstance(e, Stopped) for e in events):
            events += executor.wait(1)
        executor.start(dataclasses.replace(waits, trial=dataclasses.replace(waits.trial, task="digits")))
        while not any(isinstance(e, Finished | Lost) for e in events):
            events += executor.wait(1)
        assert isinstance(events[-1], Finished)


def test_processes_that_cannot_begin_stop_the_run_and_mark_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.bench.trials.processes._serve", os._exit)  # which takes no connection
    with Processes(1) as executor, pytest.raises(OSError, match="no process for trials can begin: its process ended"):
        go(path, Toy(), executor=executor)
    with TrialStore.read(path) as store:
        assert store.failed() == ()


def test_drivers_killed_anywhere_lose_and_double_nothing(path: Path) -> None:
    """Processes are forked from one that has imported torch and done nothing with it."""
    seeds, kills = 40, 12
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["_trials", "bittern.bench.trials.runner"])
    draw = random.Random(0)
    before: dict[str, str] = {}
    for _ in range(kills):
        ours, theirs = context.Pipe()
        driver = context.Process(target=drive, args=(path, seeds, theirs))
        driver.start()
        theirs.close()
        ours.poll(60)
        time.sleep(draw.uniform(0, 0.05))
        driver.kill()
        driver.join()
        ours.close()
        if path.exists():
            with TrialStore.read(path) as store:
                now = {d.trial.key: d.finished for d in store.done(every_machine=True)}
                assert len(now) == len(store.done(every_machine=True))
            assert before.items() <= now.items(), "what was there is there"
            before = now
    assert 0 < len(before) < 4 * seeds, "the kills must fall into the run"
    choice = Choice({"BNN": BNN}, seeds=tuple(range(seeds)), epochs=2)
    summary = go(path, Toy(), After(), choice=choice)
    assert (summary.known, summary.done) == (len(before), 4 * seeds - len(before))
    with TrialStore.read(path) as store:
        store.check()
        found = store.done(every_machine=True)
    assert len(found) == len({d.trial.key for d in found}) == 4 * seeds
    for one in found:
        if one.trial.track == "toy":
            assert one.result.metrics["accuracy"] == figure(one.trial)
    assert not work_folder(path).exists()


def test_a_driver_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    path = tmp_path / "all.trials"
    context = multiprocessing.get_context("spawn")
    driver = context.Process(target=wait_in_a_process, args=(path,))
    driver.start()
    one = Trial("toy", "waits", "mlp", TWIN, "common", 0, 2)
    folder = folder_of(path, one)
    while not (folder / "tries").exists():
        assert driver.is_alive()
        time.sleep(0.02)
    os.kill(driver.pid or 0, signal.SIGKILL)
    driver.join()
    threading.Timer(0.2, (folder / "go").touch).start()
    summary = go(path, Toy(), choice=Choice({}, seeds=(0,), epochs=2, tasks=("waits",)))
    assert summary.done == 1
    with TrialStore.read(path) as store:
        assert store.done()[0].result.metrics["tries"] == 2
