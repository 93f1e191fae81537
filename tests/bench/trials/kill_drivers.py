# SPDX-License-Identifier: Apache-2.0
"""Kill drivers with SIGKILL at random moments, and see that no trial is lost or doubled.

    python tests/bench/trials/kill_drivers.py --kills 100 [--seed 0] [--folder FOLDER]

Each driver runs trials of milliseconds and small trainings in two processes of its own, and is killed within half a
second of its first trial, the next one goes on. When the last came to its end every trial must be there once, with the
figure that follows from it, trainings with the curve of one that nobody killed. `make kills` runs it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from _trials import COMMAND, Toy, Trains, figure
from bittern.bench.trials.processes import Processes
from bittern.bench.trials.runner import Told, run, work_folder
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.track import Choice
from bittern.bench.trials.trial import Done

TRACKS = (Toy(), Trains())
LONGEST_S = 0.5


def choice(kills: int) -> Choice:
    """As many trials as the kills leave something to do for; the trainings, of a second each, are done alike."""
    return Choice({}, seeds=tuple(range(40 * kills)), epochs=2)


def trainings() -> Choice:
    return Choice({}, seeds=(0, 1, 2, 3), epochs=60)


def drive(path: Path, kills: int) -> None:
    """A driver; it prints a line when its first trial says something."""
    told: list[str] = []

    def tell(event: Told) -> None:
        if event.what == "progress" and not told:
            told.append("")
            print("began", flush=True)

    with TrialStore.open(path) as store, Processes(2) as executor:
        run(TRACKS[1:], trainings(), store, executor, command=COMMAND, on_event=tell)
        run(TRACKS[:1], choice(kills), store, executor, command=COMMAND, on_event=tell)


def results(path: Path) -> dict[str, Done]:
    if not path.exists():
        return {}
    with TrialStore.read(path) as store:
        found = store.done(every_machine=True)
    assert len({one.trial.key for one in found}) == len(found), "a trial is there twice"
    return {one.trial.key: one for one in found}


def kill(path: Path, kills: int, draw: random.Random) -> bool:
    """Start a driver and kill it; False: it came to its end before."""
    words = [sys.executable, __file__, "--drive", str(path), "--kills", str(kills)]
    driver = subprocess.Popen(words, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert driver.stdout is not None
    driver.stdout.readline()
    time.sleep(draw.uniform(0, LONGEST_S))
    driver.kill()
    return driver.wait() != 0


def check(path: Path, kills: int) -> str:
    wanted = {
        t.key for track, c in zip(TRACKS, (choice(kills), trainings()), strict=True) for t in track.plan(c).trials
    }
    found = results(path)
    assert found.keys() == wanted, f"{len(wanted - found.keys())} lost, {len(found.keys() - wanted)} of nobody"
    with TrialStore.read(path) as store:
        store.check()
    for one in found.values():
        if one.trial.track == Toy.name:
            assert one.result.metrics["accuracy"] == figure(one.trial)
    trained = [one for one in found.values() if one.trial.track == Trains.name]
    with tempfile.TemporaryDirectory() as straight, TrialStore.open(Path(straight) / "s") as store:
        with Processes(2) as executor:
            run(TRACKS[1:], trainings(), store, executor, command=COMMAND)
        curves = {one.trial.key: one.result.curves for one in store.done()}
    assert all(one.result.curves == curves[one.trial.key] for one in trained), "a training went on otherwise"
    resumed = sum(one.result.metrics["began"] > 1 for one in trained)
    assert not work_folder(path).exists(), "folders of trials are left"
    return f"{len(found)} trials, {resumed} of {len(trained)} trainings resumed from a checkpoint"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.drive is not None:
        drive(given.drive, given.kills)
        return
    folder = Path(tempfile.mkdtemp()) if given.folder is None else given.folder
    path, draw, before = folder / "killed.trials", random.Random(given.seed), dict[str, Done]()
    killed = 0
    while killed < given.kills and kill(path, given.kills, draw):
        killed += 1
        now = results(path)
        assert all(now[key].finished == one.finished for key, one in before.items()), "what was there is another"
        before = now
        print(f"kill {killed}: {len(now)} trials are there", flush=True)
    drive(path, given.kills)
    print(f"{killed} drivers killed: 0 lost, 0 doubled; {check(path, given.kills)}")
    if given.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
