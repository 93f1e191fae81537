# SPDX-License-Identifier: Apache-2.0
"""A plan in sentences: what it will do, and what it leaves out."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

from bittern.bench.budget.halving import (
    EXTRAS_SHARE,
    Arm,
    Asked,
    Plan,
    halvings,
    seconds_of_extra,
    seconds_of_final,
    seconds_of_round,
)
from bittern.bench.core.words import plural
from bittern.bench.trials.trial import TWIN


def told(planned: Plan, asked: Asked, budget: float, left: float) -> list[str]:
    """budget: seconds. left: of it, after measuring."""
    arms = [arm for arm in planned.arms if arm.method != TWIN]
    twin_arms = len(planned.arms) - len(arms)
    lines = [
        f"Budget {span(budget)}, {span(budget - left)} of it for measuring; the plan takes at most "
        f"{span(planned.seconds)}, {plural(asked.lanes, 'trial')} at a time."
    ]
    count = len(arms)
    for number, epochs in enumerate(planned.rounds):
        known = number > 0 and epochs == planned.rounds[number - 1]
        seconds = 0.0 if known else seconds_of_round(arms, twin_arms, number, epochs, asked)
        of_twin = _halved(twin_arms, number)
        twin = f" and {of_twin} of the float twin" if of_twin > 1 else ""
        again = "as long as before, so nothing is trained anew" if known else f"at most {span(seconds)}"
        lines.append(
            f"Round {number + 1}: {plural(count, 'training')}{_rates(arms) if number == 0 else ''}{twin}, "
            f"{plural(epochs, 'epoch')} each, {again}; the better half by the held-out score goes on."
        )
        count = math.ceil(count / 2)
    methods = planned.methods
    seconds = seconds_of_final(methods, planned.finalists, len(planned.seeds), planned.epochs, asked)
    most = "at most " if planned.rounds else ""
    best = ", each at its best rate" if planned.rounds else ""
    lines.append(
        f"Last round: {most}{plural(planned.finalists, 'method')} and the float twin{best}, "
        f"seeds {', '.join(map(str, planned.seeds))}, {plural(planned.epochs, 'epoch')} each, judged by the test set, "
        f"at most {span(seconds)}."
    )
    if planned.extras:
        lines.append(f"And of those: {', '.join(planned.extras)}.")
    return lines


def dropped(planned: Plan, asked: Asked, budget: float) -> list[str]:
    """What was asked for and is not in the plan, with the reason."""
    lines = [
        f"{name}: {span(asked.costs[name].epoch)} an epoch, the most expensive; with it even one seed did not fit."
        for name in asked.methods
        if name not in planned.methods
    ]
    rates = {arm.rate for arm in asked.arms} - {arm.rate for arm in planned.arms}
    if rates:
        lines.append(f"rates {_listed(rates)}: to try them takes more than the budget.")
    seeds = asked.seeds[len(planned.seeds) :]
    if seeds:
        lines.append(f"seeds {', '.join(map(str, seeds))}: the last round with them takes more than the budget.")
    for extra in asked.extras:
        if extra.track not in planned.extras:
            seconds = seconds_of_extra(extra, planned.methods, planned.finalists, planned.grid_epochs, asked)
            lines.append(
                f"{extra.track}: at most {span(seconds)}; with it the plan takes more than the budget, or other tracks "
                f"more than {EXTRAS_SHARE:.0%} of it."
            )
    arms = [arm for arm in planned.arms if arm.method != TWIN]
    if halvings(len(arms), planned.finalists) and any(
        after == before for before, after in zip(planned.rounds, planned.rounds[1:], strict=False)
    ):
        lines.append("the doubling of epochs from round to round: rounds of as many epochs decide by the same scores.")
    return lines


def went_out(number: int, arm: Arm, score: float | None, least: float | None) -> str:
    """Of an arm that a round dropped. least: score of the last one that went on."""
    if score is None:
        return f"{arm}: failed in round {number}."
    beside = "" if least is None else f"; the last that went on had {least:.4f}"
    return f"{arm}: out after round {number}, held-out score {score:.4f}{beside}."


def span(seconds: float) -> str:
    """ "95 s", "12.5 min", "2.1 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _rates(arms: Collection[Arm]) -> str:
    rates = {arm.rate for arm in arms}
    methods = plural(len({arm.method for arm in arms}), "method")
    return f" of {methods}" + (f" at rates {_listed(rates)}" if len(rates) > 1 else "")


def _listed(rates: Iterable[float]) -> str:
    return ", ".join(f"{rate:.3g}" for rate in sorted(rates))


def _halved(count: int, times: int) -> int:
    for _ in range(times):
        count = math.ceil(count / 2)
    return count
