# SPDX-License-Identifier: Apache-2.0
"""What runs trials beside each other: what it is given, and what it tells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bittern.bench.core.machine import Machine
from bittern.bench.trials.track import Track
from bittern.bench.trials.trial import Done, Result, Trial
from bittern.quantizer import Method

SHARED = "shared"
"""Beside the folders of trials: the folder of all of them."""


@dataclass(frozen=True, slots=True)
class Job:
    """A trial and all that it takes, as it goes to another process."""

    track: Track
    """A copy of it runs the trial."""
    trial: Trial
    folder: Path
    methods: Mapping[str, Method]
    data: Path | None
    threads: int
    needed: Mapping[str, Done]
    alone: bool = False
    """As `Track.alone`."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Of a running trial: the share done in [0, 1], and words."""

    key: str
    share: float
    words: str


@dataclass(frozen=True, slots=True)
class Finished:
    key: str
    result: Result
    machine: Machine
    seconds: float


@dataclass(frozen=True, slots=True)
class Raised:
    """The trial raised; error: one line."""

    key: str
    error: str
    machine: Machine


@dataclass(frozen=True, slots=True)
class Lost:
    """The process of a trial is gone; why: how it ended. What the trial left in its folder is there."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """A trial cannot run here and now, which says nothing about it: its folder, say, is on a disk that is full."""

    key: str
    why: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """A trial was interrupted, and saved what it does save."""

    key: str


End = Finished | Raised | Lost | Unusable | Stopped
Event = Progress | End


class Executor(ABC):
    """Runs jobs; used as a context manager, which at its end kills what still runs."""

    @abstractmethod
    def __enter__(self) -> Executor: ...

    @abstractmethod
    def __exit__(self, *error: object) -> None: ...

    @property
    @abstractmethod
    def lanes(self) -> int:
        """Trials beside each other, those that measure time left out; it has been entered."""

    @abstractmethod
    def accepts(self, alone: bool) -> bool:
        """Whether a trial can be started now; alone: as `Job`."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Begin it. Exactly one `End` of it comes later."""

    @abstractmethod
    def wait(self, seconds: float) -> Sequence[Event]:
        """What happened since the last call; waits so long for something to happen."""

    @abstractmethod
    def interrupt(self) -> None:
        """Ask all trials to save what they have and end."""
