# SPDX-License-Identifier: Apache-2.0
"""Trials that take long, one after another: each is on disk as soon as it is over, and a later call goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

from bittern._files import write_atomically
from bittern.bench.core.machine import Machine
from bittern.bench.core.store import load, save

R = TypeVar("R")


class Trial(NamedTuple, Generic[R]):
    """One unit of work. key: what no other trial of the report has."""

    key: Hashable
    run: Callable[[], R]


class Report(Protocol):
    """A dataclass: what determines its figures, the machine, and `runs`, a tuple with one result for each trial."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def runs(self) -> tuple[Any, ...]:
        """Of the trials that are over, in their order."""

    def page(self) -> str:
        """Markdown for readers."""


ReportT = TypeVar("ReportT", bound=Report)


def run_trials(
    subject: str,
    path: Path | None,
    fresh: ReportT,
    trials: Sequence[Trial[R]],
    key: Callable[[R], Hashable],
    *,
    on_run: Callable[[R], None] | None = None,
) -> ReportT:
    """Run the trials whose results `path` does not hold yet; after each, write the report there and its page beside it.

    subject: of error messages. path: JSON; the page has the suffix .md; None: nothing is read or
    written. fresh: the report before its first trial.
    key: of the trial that a result belongs to.

    Raises: ValueError when `path` holds a report of another setting, machine or build of bittern, or other trials;
    StoreError when it is damaged, or from before builds were kept; OSError; what a trial raises.
    """
    report = _continued(subject, path, fresh, {trial.key for trial in trials}, key)
    done = {key(run) for run in report.runs}
    for trial in trials:
        if trial.key in done:
            continue
        run = trial.run()
        report = dataclasses.replace(report, runs=(*report.runs, run))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            save(path, report)
            write_atomically(path.with_suffix(".md"), report.page().encode())
        if on_run is not None:
            on_run(run)
    return report


def _continued(
    subject: str, path: Path | None, fresh: ReportT, wanted: set[Hashable], key: Callable[[Any], Hashable]
) -> ReportT:
    """The report in `path` when it belongs to this run; `fresh` when there is none."""
    if path is None or not path.exists():
        return fresh
    found = load(path, type(fresh))
    for field in dataclasses.fields(fresh):
        theirs, ours = getattr(found, field.name), getattr(fresh, field.name)
        if isinstance(ours, Machine) and theirs != ours and dataclasses.replace(theirs, build=ours.build) == ours:
            raise ValueError(
                f"{subject}: {path} holds results of {theirs.software}, and this is build {ours.build}; figures of two "
                "builds are not mixed: move it away, or choose another place"
            )
        if field.name != "runs" and theirs != ours:
            raise ValueError(f"{subject}: {path} holds results of another {_what(field.name, theirs, ours)}; {_ADVICE}")
    others = [key(run) for run in found.runs if key(run) not in wanted]
    if others:
        raise ValueError(f"{subject}: {path} holds trials that this run does not have, such as {others[0]}; {_ADVICE}")
    return found


_ADVICE = "repeat its arguments to continue it, move it away, or choose another place"


def _what(name: str, theirs: Any, ours: Any) -> str:
    """Which field differs; of a dataclass, which of its own."""
    if not dataclasses.is_dataclass(ours):
        return f"{name}: {theirs!r}, here {ours!r}"
    differ = [f.name for f in dataclasses.fields(ours) if getattr(theirs, f.name) != getattr(ours, f.name)]
    return f"{name} (other {', '.join(differ)})"
