# SPDX-License-Identifier: Apache-2.0
"""One store of several: what each has and the first has not."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bittern.bench.trials.rows import digest_of_machine
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.trial import Done

LEFT_OUT = "left out when stores were merged: "


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did. A second one adds nothing."""

    added: int
    """Results."""
    known: int
    """Results that were there."""
    differing: int
    """Of those, the ones that a machine had found twice with other figures: the first stays."""
    failures: int
    """Added: of trials without a result."""


def merge(into: str | Path, sources: Sequence[str | Path], leave_out: Collection[str] = ()) -> Merged:
    """Copy into the store `into`, which is made where there is none, what the stores `sources` have beyond it.

    A trial that another machine has answered gets the second answer beside the first; one that the same machine has
    answered keeps its answer. All sources are looked through for damage before anything is written.

    leave_out: names of artefacts that stay behind, as trained models; a note of each result says so.

    Raises: ValueError for a source that is the target, and for a name that no source has; FileNotFoundError;
    InUseError; StoreError; OSError.
    """
    into = Path(into)
    for source in map(Path, sources):
        if source.exists() and into.exists() and os.path.samefile(source, into):
            raise ValueError(f"merge: {source} is both what is read and what is written; leave it out")
    with ExitStack() as stack:
        opened = [stack.enter_context(TrialStore.read(source)) for source in sources]
        for one in opened:
            one.check()
        there_are = {name for one in opened for done in one.done(every_machine=True) for name in _names(done)}
        if unknown := sorted(set(leave_out) - there_are):
            raise ValueError(
                f"merge: no result has an artefact {unknown[0]!r}; there are {', '.join(sorted(there_are))}"
            )
        store = stack.enter_context(TrialStore.open(into))
        there = {_place(done): done for done in store.done(every_machine=True)}
        added = known = differing = failures = 0
        for source_store in opened:
            for done in source_store.done(every_machine=True):
                kept = _without(done, leave_out)
                if store.add(kept, beside=True):
                    added += 1
                    there[_place(done)] = kept
                else:
                    known += 1
                    differing += there[_place(done)].result.metrics != done.result.metrics
            failed_there = {(f.trial.key, f.machine) for f in store.failed()}
            for failed in source_store.failed():
                if not store.has(failed.trial) and (failed.trial.key, failed.machine) not in failed_there:
                    store.add_failed(failed)
                    failures += 1
    return Merged(added, known, differing, failures)


def _names(done: Done) -> set[str]:
    """Of the artefacts that a result has or had."""
    gone = (note.removeprefix(LEFT_OUT).split(", ") for note in done.result.notes if note.startswith(LEFT_OUT))
    return {*done.result.artefacts, *itertools.chain.from_iterable(gone)}


def _without(done: Done, names: Collection[str]) -> Done:
    left = sorted(done.result.artefacts.keys() & set(names))
    if not left:
        return done
    result = replace(
        done.result,
        artefacts={name: done.result.artefacts[name] for name in done.result.artefacts if name not in left},
        notes=(*done.result.notes, f"{LEFT_OUT}{', '.join(left)}"),
    )
    return replace(done, result=result)


def _place(done: Done) -> tuple[str, str]:
    return done.trial.key, digest_of_machine(done.machine)
