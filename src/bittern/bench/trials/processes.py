# SPDX-License-Identifier: Apache-2.0
"""Trials in processes of this machine, each of which runs one trial after another.

A trial that crashes takes its process with it and nothing else. A process ends when its driver does, however that
ends. It is the leader of a group of its own, so that Ctrl-C reaches the driver alone, which passes it on once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Self

from bittern.bench.trials.executor import Event, Executor, Job, Lost, Progress, Stopped, Unusable
from bittern.bench.trials.worker import one_line, perform


class _Slot:
    """One process, and what it runs."""

    def __init__(self) -> None:
        # not forked: what this process did with threads would not survive that
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs,), name="trials")
        with _without_interrupts():
            self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.serving = False

    def end(self) -> None:
        if self.process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):  # before it leads a group, there is none
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()


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
                slot.process.join()
                if slot.job is not None:
                    key, how = slot.job.trial.key, _how(slot.process.exitcode)
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
            if slot.serving and slot.process.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(slot.process.pid, signal.SIGINT)
            elif slot.job is not None:
                # it ignores Ctrl-C still, and its trial has not begun
                self._stopped.append(Stopped(slot.job.trial.key))
                self._slots.remove(slot)
                slot.end()


def _serve(connection: Connection) -> None:
    """The process: a job after another, until the driver says no more."""
    os.setpgrp()
    threading.Thread(target=_leave_with_driver, daemon=True).start()
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


def _leave_with_driver() -> None:
    """Leave nothing behind that would hold the trial's folder when the next driver comes."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os.killpg(0, signal.SIGKILL)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process that starts meanwhile ignores Ctrl-C until it says otherwise, rather than dying of it half-imported."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        memory = ", which is what a system without memory does" if code == -signal.SIGKILL else ""
        return f"its process was ended by {signal.Signals(-code).name}{memory}"
    return f"its process ended with status {code}"
