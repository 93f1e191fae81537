# SPDX-License-Identifier: Apache-2.0
"""A plan and how it ended, as results of a store: the plan stays the one that it was, and readers are told what was
left out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from bittern.bench.budget.halving import Arm, Plan
from bittern.bench.core.machine import this_machine
from bittern.bench.core.store import StoreError
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.trial import Done, Result, Trial

PLAN, END = "budget_plan", "budget_end"
"""Tracks of the two; their trials carry the float twin's name, which is in every plan."""
FILE = "plan.json"
LEFT_OUT = "Left out: "
"""How a note begins that says what was dropped."""


def keep(store: TrialStore, trial: Trial, command: str, result: Result) -> None:
    """Raises: OSError; ValueError."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    store.add(Done(trial, result, this_machine(), command, moment, 0.0))


def plan_result(planned: Plan, budget: float, left: float, notes: Sequence[str]) -> Result:
    """budget: seconds. left: of it, when the plan was made."""
    file = json.dumps(dataclasses.asdict(planned), separators=(",", ":")).encode()
    metrics = {"budget": budget, "planned": planned.seconds, "left": left}
    return Result(metrics, artefacts={FILE: file}, notes=tuple(notes))


def plan_of(done: Done) -> Plan:
    """Raises: StoreError for a file that is no plan."""
    try:
        found: dict[str, Any] = json.loads(done.result.artefacts[FILE])
        for name in ("seeds", "extras", "rounds"):
            found[name] = tuple(found[name])
        found["arms"] = tuple(Arm(**arm) for arm in found["arms"])
        return Plan(**found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StoreError(f"{FILE} of {done.trial} is no plan: {error!r}; begin a new store") from error


def left_out(done: Done) -> tuple[str, ...]:
    """Sentences of a plan or an end on what was dropped."""
    if done.trial.track not in (PLAN, END):
        return ()
    return tuple(note.removeprefix(LEFT_OUT) for note in done.result.notes if note.startswith(LEFT_OUT))
