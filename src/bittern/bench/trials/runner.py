# SPDX-License-Identifier: Apache-2.0
"""The driver: plans, runs what the store does not have, and keeps what comes out.

Killed at any moment and called again, it goes on: a trial is in the store or it is not, and its folder beside the store
keeps the checkpoints of one that is not, until its result is there.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.trials.executor import SHARED, Event, Executor, Finished, Job, Lost, Progress, Raised, Unusable
from bittern.bench.trials.order import Order, Planned, in_order
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.track import Choice, Track
from bittern.bench.trials.trial import Done, Failed, Trial

RETRIES = 2
"""Of a trial whose process was lost, each from its last checkpoint; one that raises is not tried again."""
WAIT_S = 0.5
"""Between looks at what happens where nothing does, so that Ctrl-C is heard."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a driver says while it runs. what: "start", "progress", "done", "failed", "lost" or "stopping"."""

    what: str
    trial: Trial | None
    words: str
    share: float
    over: int
    """Trials that are done or failed, of `total`."""
    total: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a call did, and left."""

    total: int
    known: int
    """Trials that the store had before."""
    done: int
    failed: tuple[Failed, ...]
    """In this call."""
    failed_before: tuple[Failed, ...]
    """And not tried again."""
    blocked: tuple[Trial, ...]
    """Not tried, for a trial that they need failed."""
    dropped: tuple[str, ...]
    """What plans left out, and why."""
    late: tuple[Trial, ...] = ()
    """Not begun, for the time was over."""


def work_folder(store: Path) -> Path:
    """Where trials keep checkpoints: beside the store."""
    return store.with_name(f"{store.name}.work")


def run(
    tracks: Sequence[Track],
    choice: Choice,
    store: TrialStore,
    executor: Executor,
    *,
    command: str,
    known: Iterable[Track] = (),
    work: Path | None = None,
    threads: int = 1,
    retry_failed: bool = False,
    on_event: Callable[[Told], None] = lambda told: None,
) -> Summary:
    """Run the trials of `tracks` that `store` does not have; each is in the store as soon as it is over.

    tracks: a copy of each goes to the processes that run trials of it.
    executor: runs them; it has been entered. command: what repeats this. known: tracks whose trials others may need.
    work: folder for the trials' own folders and a shared one, which every process of the executor sees; None: beside
    the store. A folder is removed once its trial's result is in the store; one of a trial that failed stays.
    threads: of each trial.
    retry_failed: try again what failed in an earlier call, from the beginning.

    Raises: ValueError for what cannot be planned; KeyboardInterrupt after Ctrl-C, when running trials have saved what
    they have (at once after a second one); OSError where the store or a folder cannot be written, with all that
    came before kept.
    """
    return carry_out(
        in_order(tracks, choice, known),
        choice,
        store,
        executor,
        command=command,
        work=work,
        threads=threads,
        retry_failed=retry_failed,
        on_event=on_event,
    )


def carry_out(
    planned: Order,
    choice: Choice,
    store: TrialStore,
    executor: Executor,
    *,
    command: str,
    work: Path | None = None,
    threads: int = 1,
    retry_failed: bool = False,
    until: float = math.inf,
    on_event: Callable[[Told], None] = lambda told: None,
) -> Summary:
    """As `run`, of trials that are in order. until: of `time.monotonic`; no trial begins after it."""
    place = work_folder(store.path) if work is None else work
    driver = _Driver(planned.trials, choice, store, executor, command, place, threads, until, on_event)
    driver.look_back(retry_failed)
    try:
        driver.go()
        shutil.rmtree(place / SHARED, ignore_errors=True)  # a run that is stopped goes on with it
    except (KeyboardInterrupt, OSError):
        driver.stop()
        raise
    finally:
        with suppress(OSError):
            place.rmdir()  # unless something is in it
    return driver.summary(planned.dropped)


class _Driver:
    def __init__(
        self,
        planned: Sequence[Planned],
        choice: Choice,
        store: TrialStore,
        executor: Executor,
        command: str,
        place: Path,
        threads: int,
        until: float,
        on_event: Callable[[Told], None],
    ) -> None:
        self.planned = {one.trial.key: one for one in planned}
        self.choice = choice
        self.store = store
        self.executor = executor
        self.command = command
        self.place = place
        self.threads = threads
        self.until = until
        self.on_event = on_event
        self.waiting: dict[str, Planned] = {}
        self.running: dict[str, Planned] = {}
        self.done: set[str] = set()
        self.failed: dict[str, Failed] = {}
        self.failed_before: tuple[Failed, ...] = ()
        self.known = 0
        self.lost: Counter[str] = Counter()

    def look_back(self, retry_failed: bool) -> None:
        """Sort the trials by what the store says about them, and remove folders that nobody needs."""
        self.done = {key for key, one in self.planned.items() if self.store.has(one.trial)}
        self.known = len(self.done)
        failed = tuple(one for one in self.store.failed() if one.trial.key in self.planned)
        for one in failed if retry_failed else ():
            shutil.rmtree(self.place / one.trial.key, ignore_errors=True)
        self.failed_before = () if retry_failed else failed
        left_out = self.done | {one.trial.key for one in self.failed_before}
        self.waiting = {key: one for key, one in self.planned.items() if key not in left_out}
        for key in self.done:
            # killed between keeping the result and this
            shutil.rmtree(self.place / key, ignore_errors=True)

    def go(self) -> None:
        while True:
            while (one := self._next()) is not None:
                self._start(one)
            if not self.running:
                return
            for event in self.executor.wait(WAIT_S):
                self._take(event)

    def stop(self) -> None:
        """Let running trials save what they have, and keep what comes to its end meanwhile."""
        if self.running:
            self._tell("stopping", None, "running trials save what they have; Ctrl-C again ends them at once")
        self.executor.interrupt()
        while self.running:
            for event in self.executor.wait(WAIT_S):
                with suppress(OSError):  # what stopped the run may keep this from being written too
                    if isinstance(event, Finished | Raised | Progress):
                        self._take(event)
                    else:
                        self.running.pop(event.key, None)

    def summary(self, dropped: tuple[str, ...]) -> Summary:
        failed = {*self.failed, *(one.trial.key for one in self.failed_before)}
        blocked: dict[str, Trial] = {}
        for key, one in self.waiting.items():
            # needs come first
            if any(need.key in failed or need.key in blocked for need in one.needs):
                blocked[key] = one.trial
        return Summary(
            total=len(self.planned),
            known=self.known,
            done=len(self.done) - self.known,
            failed=tuple(self.failed.values()),
            failed_before=self.failed_before,
            blocked=tuple(blocked.values()),
            dropped=dropped,
            late=tuple(one.trial for key, one in self.waiting.items() if key not in blocked),
        )

    def _next(self) -> Planned | None:
        """The first that has what it needs and may run beside what runs; None when the time is over."""
        if time.monotonic() >= self.until:
            return None
        for one in self.waiting.values():
            if all(need.key in self.done for need in one.needs) and self.executor.accepts(one.alone):
                return one
        return None

    def _start(self, one: Planned) -> None:
        key = one.trial.key
        found = {need.key: self.store.get(need) for need in one.needs}
        needed = {name: done for name, done in found.items() if done is not None}
        methods, data = self.choice.methods, self.choice.data
        job = Job(one.track, one.trial, self.place / key, methods, data, self.threads, needed, one.alone)
        self.running[key] = self.waiting.pop(key)
        self.executor.start(job)
        self._tell("start", one.trial, "again, from its last checkpoint" if self.lost[key] else "")

    def _take(self, event: Event) -> None:
        one = self.running.get(event.key)
        if one is None:
            return  # of a trial that is over: the last words of a process that was thought lost
        if isinstance(event, Progress):
            self._tell("progress", one.trial, event.words, event.share)
            return
        del self.running[event.key]
        if isinstance(event, Finished):
            self._keep(one.trial, event)
        elif isinstance(event, Raised):
            self._fail(one.trial, event.error, event.machine)
        elif isinstance(event, Lost):
            self._retry(one, event.why)
        elif isinstance(event, Unusable):
            raise OSError(f"bench run: {event.why}; what was done is kept, and the same command goes on")
        else:
            raise KeyboardInterrupt  # somebody interrupted a trial's process, and means all of it

    def _keep(self, trial: Trial, event: Finished) -> None:
        done = Done(trial, event.result, event.machine, self.command, _now(), event.seconds)
        try:
            self.store.add(done)
        except ValueError as error:
            self._fail(trial, str(error), event.machine)
            return
        self.done.add(trial.key)
        shutil.rmtree(self.place / trial.key, ignore_errors=True)
        self._tell("done", trial, f"{event.seconds:.1f} s", 1.0)

    def _fail(self, trial: Trial, error: str, machine: Machine) -> None:
        failed = Failed(trial, error, machine, self.command, _now())
        self.store.add_failed(failed)
        self.failed[trial.key] = failed
        self._tell("failed", trial, error)

    def _retry(self, one: Planned, why: str) -> None:
        key = one.trial.key
        self.lost[key] += 1
        if self.lost[key] > RETRIES:
            self._fail(one.trial, f"lost {self.lost[key]} times: {why}", this_machine())
            return
        # first, for others may need it
        self.waiting = {key: one, **self.waiting}
        self._tell("lost", one.trial, why)

    def _tell(self, what: str, trial: Trial | None, words: str, share: float = 0.0) -> None:
        over = len(self.done) + len(self.failed) + len(self.failed_before)
        self.on_event(Told(what, trial, words, share, over, len(self.planned)))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
