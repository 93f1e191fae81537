# SPDX-License-Identifier: Apache-2.0
"""Trials of tracks, run one after the other in this process, and results that are made up."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bittern.bench.core.machine import Machine, this_machine
from bittern.bench.trials.track import Choice, Track, Work
from bittern.bench.trials.trial import Done, Result, Trial
from bittern.binary import BNN, ReActNet


@functools.cache
def machine() -> Machine:
    return this_machine()


def choice(**changes: Any) -> Choice:
    """Small: the MLP on a few digits, an epoch, one seed."""
    small: dict[str, Any] = {
        "methods": {"BNN": BNN},
        "seeds": (0,),
        "epochs": 1,
        "train_size": 150,
        "tasks": ("digits",),
        "networks": ("mlp",),
    }
    return Choice(**{**small, **changes})


def done(trial: Trial, metrics: Mapping[str, float] | Result) -> Done:
    result = metrics if isinstance(metrics, Result) else Result(metrics)
    return Done(trial, result, machine(), "bittern bench run", "2026-11-30T00:00:00Z", 1.0)


def run_all(tracks: Sequence[Track], trials: Sequence[Trial], asked: Choice, folder: Path) -> dict[str, Done]:
    """By their keys: the trials, and those that they need."""
    found: dict[str, Done] = {}

    def run(trial: Trial) -> None:
        track = next(one for one in tracks if one.name == trial.track)
        needs = track.needs(trial)
        for needed in needs:
            if needed.key not in found:
                run(needed)
        work = Work(
            folder / trial.key[:8],
            {"BNN": BNN, "ReActNet": ReActNet, **asked.methods},
            asked.data,
            needed={needed.key: found[needed.key] for needed in needs},
        )
        found[trial.key] = done(trial, track.run(trial, work))

    for trial in trials:
        if trial.key not in found:
            run(trial)
    return found
