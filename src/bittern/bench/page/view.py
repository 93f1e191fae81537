# SPDX-License-Identifier: Apache-2.0
"""What all parts of the page look at: trials in the order of readers, with numbers for them, machines and commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bittern import binary, quant
from bittern.bench.core.machine import Machine
from bittern.bench.trials.candidates import Candidate, candidates
from bittern.bench.trials.groups import Group, grouped, twins
from bittern.bench.trials.track import Track
from bittern.bench.trials.trial import TWIN, Done, Failed, Trial

COLORS = 9
"""Hues that the page has for methods (`page.css`); the twin has one of its own."""
SYMBOLS = ("circle", "rect", "triangle", "diamond", "roundRect", "pin", "arrow", "emptyCircle", "emptyRect")


@dataclass(frozen=True)
class View:
    """Made by `view`. done, failed: in the order of the page, which numbers them from 1."""

    done: tuple[Done, ...]
    failed: tuple[Failed, ...]
    tracks: tuple[Track, ...]

    @cached_property
    def everything(self) -> tuple[Done | Failed, ...]:
        return (*self.done, *self.failed)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """The twin first, then those of the package in their order, then others by name."""
        names = {one.trial.method for one in self.everything}
        return tuple(sorted(names, key=_method_order))

    @cached_property
    def groups(self) -> list[Group]:
        return grouped(self.done)

    @cached_property
    def twins(self) -> Mapping[Trial, Group]:
        return twins(self.groups)

    @cached_property
    def candidates(self) -> list[Candidate]:
        return candidates(self.done)

    @cached_property
    def machines(self) -> tuple[Machine, ...]:
        return tuple(dict.fromkeys(one.machine for one in self.everything))

    @cached_property
    def commands(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.command for one in self.everything))

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {id(one): number for number, one in enumerate(self.done, 1)}

    def numbers(self, done: Iterable[Done]) -> list[int]:
        """Of trials of this view."""
        return [self._numbers[id(one)] for one in done]

    def title(self, track: str) -> str:
        """Of a track by its name, which stays where the track is not known."""
        return next((one.title for one in self.tracks if one.name == track), track)


def view(done: Sequence[Done], failed: Sequence[Failed], tracks: Sequence[Track]) -> View:
    """In the order of tracks, then of names, then of seeds: the same trials give the same page."""
    order = {track.name: place for place, track in enumerate(tracks)}

    def key(one: Done | Failed) -> tuple[object, ...]:
        trial = one.trial
        place = order.get(trial.track, len(order))
        return (
            *(place, trial.track, trial.task, trial.network, _method_order(trial.method), trial.recipe, trial.epochs),
            *([(name, str(value)) for name, value in trial.settings], trial.seed, one.finished, one.machine.cpu),
        )

    return View(tuple(sorted(done, key=key)), tuple(sorted(failed, key=key)), tuple(tracks))


def color(view: View, method: str) -> str:
    """CSS variable of a method."""
    if method == TWIN:
        return "--twin"
    return f"--method{_place(view, method) % COLORS}"


def symbol(view: View, method: str) -> str:
    """Of ECharts."""
    return "diamond" if method == TWIN else SYMBOLS[_place(view, method) % len(SYMBOLS)]


def _place(view: View, method: str) -> int:
    return [name for name in view.methods if name != TWIN].index(method)


def _method_order(name: str) -> tuple[int, str]:
    if name == TWIN:
        return -1, ""
    known = [method.__name__ for method in (*binary.ALL, *quant.ALL)]
    return next((place for place, one in enumerate(known) if name == one), len(known)), name
