# SPDX-License-Identifier: Apache-2.0
"""Trials in processes of this machine, each of which runs one trial after another.

A trial that crashes takes its process with it and nothing else. Ctrl-C reaches the driver alone, which passes it on
once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Self

from bittern.bench.core.child import Child
from bittern.bench.trials.executor import Event, Executor, Job, Lost, Progress, Stopped, Unusable
from bittern.bench.trials.worker import one_line, perform


class _Slot:
    """One process, and what it runs."""

    def __init__(self) -> None:
        self.child = Child(_serve, "trials")
        self.connection = self.child.connection
        self.job: Job | None = None
        self.serving = False

    def end(self) -> None:
        self.child.end()


class Processes(Executor):
    """At most `count` trials at a time; one that measures time runs while no other does.

    Raises: ValueError for no process.
    """

    def __init__(self, count: int = 1) -> None:
        if count < 1:
            raise ValueError(f"trials need at least 1 process; got {count}")
        self._count = count
        self._slots: list[_Slot] = []
        self._stopped: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        while self._slots:
            self._slots.pop().end()

    @property
    def lanes(self) -> int:
        return self._count

    def accepts(self, alone: bool) -> bool:
        running = [slot.job for slot in self._slots if slot.job is not None]
        if any(one.alone for one in running) or (alone and running):
            return False
        return len(running) < self._count

    def start(self, job: Job) -> None:
        idle = [slot for slot in self._slots if slot.job is None]
        if not idle:
            idle.append(_Slot())
            self._slots += idle
        idle[0].job = job
        with suppress(OSError):  # a process that died meanwhile is found by `wait`
            idle[0].connection.send(job.trial.key)
            idle[0].connection.send(job)

    def wait(self, seconds: float) -> Sequence[Event]:
        events, self._stopped = self._stopped, []
        ready = wait([slot.connection for slot in self._slots], 0 if events else seconds)
        for slot in [slot for slot in self._slots if slot.connection in ready]:
            try:
                event: Event | None = slot.connection.recv()
            except (EOFError, OSError):
                self._slots.remove(slot)
                if slot.job is not None:
                    key, how = slot.job.trial.key, slot.child.how()
                    # one that never began says nothing about the trial
                    events.append(
                        Lost(key, how) if slot.serving else Unusable(key, f"no process for trials can begin: {how}")
                    )
                slot.end()
                continue
            slot.serving = True
            if event is None:
                continue
            if not isinstance(event, Progress):
                slot.job = None
            events.append(event)
        return events

    def interrupt(self) -> None:
        for slot in [slot for slot in self._slots if slot.job is not None]:
            if slot.serving and slot.child.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(slot.child.process.pid, signal.SIGINT)
            elif slot.job is not None:
                # it ignores Ctrl-C still, and its trial has not begun
                self._stopped.append(Stopped(slot.job.trial.key))
                self._slots.remove(slot)
                slot.end()


def _serve(connection: Connection) -> None:
    """The process: a job after another, until the driver says no more."""
    interrupts = _Interrupts()
    signal.signal(signal.SIGINT, interrupts.handle)
    with suppress(EOFError, OSError):  # the driver is gone
        connection.send(None)
        while True:
            key = connection.recv()
            connection.send(_answer(connection, key, interrupts))


def _answer(connection: Connection, key: str, interrupts: _Interrupts) -> Event:
    try:
        job: Job = connection.recv()
    # whatever the modules of the user's own methods do here that they did not do in the driver
    except Exception as error:
        return Unusable(key, f"cannot take a trial in a process of its own: {one_line(error)}")

    def tell(share: float, words: str) -> None:
        with interrupts.kept():  # half a message would be the last one
            connection.send(Progress(key, share, words))

    try:
        with interrupts.heard():
            return perform(job, tell)
    except KeyboardInterrupt:
        return Stopped(key)


class _Interrupts:
    """Ctrl-C raises KeyboardInterrupt while a trial runs, but for the moments in which it says something."""

    def __init__(self) -> None:
        self._heard = False
        self._kept = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self._heard:
            raise KeyboardInterrupt
        self._kept = True

    @contextmanager
    def heard(self) -> Iterator[None]:
        self._heard, self._kept = True, False
        try:
            yield
        finally:
            self._heard = False

    @contextmanager
    def kept(self) -> Iterator[None]:
        self._heard = False
        yield
        self._heard = True
        if self._kept:
            raise KeyboardInterrupt
