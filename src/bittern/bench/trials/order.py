# SPDX-License-Identifier: Apache-2.0
"""Which trials a run takes, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bittern.bench.trials.track import Choice, Track
from bittern.bench.trials.trial import Trial


@dataclass(frozen=True, slots=True)
class Planned:
    """A trial, the track that runs it, and the trials that must be done before."""

    trial: Trial
    track: Track
    needs: tuple[Trial, ...]
    alone: bool


@dataclass(frozen=True, slots=True)
class Order:
    """Every trial once, behind those that it needs."""

    trials: tuple[Planned, ...]
    dropped: tuple[str, ...]


def in_order(tracks: Sequence[Track], choice: Choice, known: Iterable[Track] = ()) -> Order:
    """Trials of `tracks` in their order, each behind those that it needs, which may be of other tracks of `known`.

    A track that does not have the chosen tasks or networks is dropped with what it says, unless no other has them.

    Raises: ValueError when no track can be planned, for a need of an unknown track, or for needs in a circle.
    """
    by_name = {track.name: track for track in (*known, *tracks)}
    trials: list[Trial] = []
    dropped: list[str] = []
    refusals: list[ValueError] = []
    for track in tracks:
        try:
            plan = track.plan(choice)
        except ValueError as error:
            refusals.append(error)
            dropped.append(f"{track.name} is left out: {error}")
            continue
        trials += plan.trials
        dropped += plan.dropped
    if refusals and len(refusals) == len(tracks):
        raise refusals[0]
    return of_trials(trials, by_name.values(), dropped)


def of_trials(trials: Iterable[Trial], known: Iterable[Track], dropped: Iterable[str] = ()) -> Order:
    """These trials, each behind those that it needs. known: the tracks of all of them. Raises: ValueError."""
    by_name = {track.name: track for track in known}
    found: dict[str, Planned] = {}
    for trial in trials:
        _visit(trial, by_name, found, [])
    return Order(tuple(found.values()), tuple(dict.fromkeys(dropped)))


def _visit(trial: Trial, tracks: Mapping[str, Track], found: dict[str, Planned], above: list[Trial]) -> None:
    """Put it behind what it needs."""
    if trial.key in found:
        return
    if trial in above:
        raise ValueError(f"bench run: {trial} needs itself, by way of {len(above)} trials; a track is wrong")
    if trial.track not in tracks:
        raise ValueError(f"bench run: {above[-1] if above else trial} needs track {trial.track!r}, which is not known")
    track = tracks[trial.track]
    needs = tuple(track.needs(trial))
    for needed in needs:
        _visit(needed, tracks, found, [*above, trial])
    found[trial.key] = Planned(trial, track, needs, track.alone(trial))
