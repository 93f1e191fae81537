# SPDX-License-Identifier: Apache-2.0
"""What a track has to answer: which trials it wants, how one runs, and what they say together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bittern.bench.trials.trial import Done, Result, Trial
from bittern.quantizer import Method


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user asked for.

    methods: name -> method; the float twin comes beside them without being named.
    seeds, recipes ("common", "paper"), epochs: of trainings. train_size: training examples, at most; None: all.
    data: folder with the data sets by their names (`bittern bench run --data`); None: those that come with bittern.
    tasks, networks: names; empty: all that the track has.
    rates: method, or `TWIN` -> learning rate of its trainings by the common recipe, where that is chosen for each.
    """

    methods: Mapping[str, Method]
    seeds: tuple[int, ...] = (0, 1, 2)
    recipes: tuple[str, ...] = ("common",)
    epochs: int = 3
    train_size: int | None = None
    data: Path | None = None
    tasks: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """What a running trial is given.

    folder: its own, which survives a kill; checkpoints go there, so that the next attempt goes on.
    methods: name -> method, for `trial.method`. data: as `Choice`. threads: of torch and the kernels.
    needed: results of the trials that `Track.needs` named, by their keys.
    on_progress: (share done in [0, 1], words). shared: a folder of all trials of the run, to keep there what several
    of them would make alike; it may not exist yet, and goes with the run. None: there is none.
    """

    folder: Path
    methods: Mapping[str, Method]
    data: Path | None = None
    threads: int = 1
    needed: Mapping[str, Done] = field(default_factory=dict)
    on_progress: Callable[[float, str], None] = lambda share, words: None
    shared: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Trials, and sentences on what was left out and why."""

    trials: tuple[Trial, ...]
    dropped: tuple[str, ...] = ()


class Companion(NamedTuple):
    """A figure that is read beside a track's overall metric, where that one alone misleads."""

    title: str
    why: str
    """One sentence for readers."""
    values: Mapping[str, float]
    """Of each method that has what it takes; the twin's would be 1, higher is better."""


class Track(ABC):
    """One question. Objects keep nothing of any run: copies of them go to the processes that run trials.

    name: as `Trial.track`. title, question: for readers. metric: of a result, what relative figures are made from;
    higher_is_better: of it.
    """

    name: str
    title: str
    question: str
    metric: str
    higher_is_better: bool = True

    @abstractmethod
    def plan(self, choice: Choice) -> Plan:
        """All trials, those of the float twin among them, in the order in which they should run.

        Raises: ValueError for a task or network that the track does not have.
        """

    def needs(self, trial: Trial) -> Sequence[Trial]:
        """Trials, of any track, that must be done before this one, whose results `run` is given."""
        return ()

    def alone(self, trial: Trial) -> bool:
        """Whether it measures time, so that no other trial of any track may run beside it on the same machine."""
        return False

    @abstractmethod
    def run(self, trial: Trial, work: Work) -> Result:
        """Do it. Killed and called again with the same folder, it ends with the same result.

        Raises: what goes wrong; the cell is marked with it.
        """

    @abstractmethod
    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        """BiBench's overall metric of this track for each method that has what it takes, the twin left out.

        done: of this track and of those it needs.
        """

    def companion(self, done: Sequence[Done]) -> Companion | None:
        """What has to be read beside `overall`; None: nothing. done: as there."""
        return None
