# SPDX-License-Identifier: Apache-2.0
"""What fits into a budget: successive halving over epochs, and what is left out for it. Numbers in, a plan out.

Every method is tried at every rate for a few epochs and scored on held-out examples; the better half is trained anew
for twice as many, until no more are left than there are finalists: behind the last of these rounds, the best of each
method. The last round trains those with every seed, and judges them by the test set, which has no say before.
The float twin's rates are tried beside them, and it is always in the last round.
Where all of it does not fit, less is asked for, in this order: other tracks (the most expensive first), finalists,
rates, the doubling of epochs, seeds, and at last methods (the most expensive first). With what is chosen so, the last
round gets as many epochs as fit. All times are of the worst case, that the most expensive go on.
Source: successive halving, arXiv 1502.07943; there the budget of a round is fixed and arms go on from where they stand,
here they start anew, since a schedule spans all epochs of a training.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bittern.bench.trials.trial import TWIN

FINALISTS = (4, 2, 1)
LEAST_SEEDS = 3
EXTRAS_SHARE = 1 / 3
"""Of the budget, at most, for other tracks than the learning task."""
MARGIN = 0.9
"""Of the budget that a plan uses: the rest is for what nobody measured."""
MOST_EPOCHS = 200
"""Where nobody asked for less."""


@dataclass(frozen=True, order=True, slots=True)
class Arm:
    """Something to try: a method, or the float twin, at a rate of the common recipe."""

    method: str
    rate: float

    def __str__(self) -> str:
        return f"{self.method} at rate {self.rate:.3g}"


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a method. start: of a training before its first step. epoch: its steps and one scoring.
    judge: packing, verifying, and the whole test set."""

    start: float
    epoch: float
    judge: float

    def training(self, epochs: int) -> float:
        return self.start + epochs * self.epoch


@dataclass(frozen=True, slots=True)
class Extra:
    """Another track: seconds for each method, and so many trainings of the first round's epochs."""

    track: str
    seconds: Mapping[str, float]
    trainings: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What the budget is for. arms: of methods, then of the twin, of all rates; own: the rate that is tried alone."""

    arms: tuple[Arm, ...]
    own: float
    seeds: tuple[int, ...]
    costs: Mapping[str, Cost]
    extras: tuple[Extra, ...] = ()
    lanes: int = 1
    """Trials beside each other."""
    most_epochs: int = MOST_EPOCHS

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(arm.method for arm in self.arms if arm.method != TWIN))


@dataclass(frozen=True, slots=True)
class Plan:
    """rounds: epochs of each; epochs: of the last one. seconds: of all of it, at most."""

    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    finalists: int
    extras: tuple[str, ...]
    rounds: tuple[int, ...]
    epochs: int
    seconds: float

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(arm.method for arm in self.arms if arm.method != TWIN))

    @property
    def grid_epochs(self) -> int:
        """Of a track's trainings."""
        return self.rounds[0] if self.rounds else self.epochs


class TooSmallError(ValueError):
    """least: seconds that would do."""

    def __init__(self, budget: float, least: float) -> None:
        super().__init__(
            f"bench run: a budget of {budget:.0f} s is too small for one method beside the float twin, one seed and "
            f"one epoch each; give at least {least:.0f}s"
        )
        self.least = least


def plan(asked: Asked, budget: float) -> Plan:
    """The first of the plans that fits into `budget` seconds, with as many epochs as fit. Raises: TooSmallError."""
    usable = MARGIN * budget
    smallest = math.inf
    for shape in _shapes(asked):
        halvings = len(shape.rounds)
        least = 1 if shape.epochs == 1 else 2**halvings
        if least > asked.most_epochs:
            continue
        timed = _timed(asked, shape, least)
        smallest = min(smallest, timed.seconds)
        if _fits(asked, timed, usable, budget):
            tries = (_timed(asked, shape, epochs) for epochs in range(asked.most_epochs, least, -1))
            return next((one for one in tries if _fits(asked, one, usable, budget)), timed)
    raise TooSmallError(budget, math.ceil(smallest / MARGIN))


def better_half(scores: Sequence[tuple[Arm, float | None]], costs: Mapping[str, Cost]) -> tuple[Arm, ...]:
    """The better half of the arms, best first; of an odd number the larger half."""
    return ranked(scores, costs)[: math.ceil(len(scores) / 2)]


def ranked(scores: Sequence[tuple[Arm, float | None]], costs: Mapping[str, Cost]) -> tuple[Arm, ...]:
    """The arms, best first. None or NaN, what failed, is left out.

    Of equal scores the cheaper method is better, then the one that was named first.
    """
    keys = {}
    for place, (arm, score) in enumerate(scores):
        if score is not None and not math.isnan(score):
            keys[arm] = (-score, costs[arm.method].epoch, place)
    return tuple(sorted(keys, key=lambda arm: keys[arm]))


def best_of_each(arms: Iterable[Arm], count: int) -> tuple[Arm, ...]:
    """Of arms with the best first, the best of each method, at most `count`."""
    first: dict[str, Arm] = {}
    for arm in arms:
        first.setdefault(arm.method, arm)
    return tuple(first.values())[:count]


def halvings(arms: int, finalists: int) -> int:
    """How often the half must go until `finalists` are left."""
    count = 0
    while arms > finalists:
        arms, count = math.ceil(arms / 2), count + 1
    return count


def makespan(seconds: Iterable[float], lanes: int) -> float:
    """Until all are done, `lanes` beside each other, the longest first."""
    ends = [0.0] * lanes
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends)


def seconds_of_round(arms: Sequence[Arm], twin_arms: int, number: int, epochs: int, asked: Asked) -> float:
    """At most: of the arms that are left in round `number`, the most expensive ones, and of the twin's while it has
    several."""
    left, of_twin = len(arms), twin_arms
    for _ in range(number):
        left, of_twin = math.ceil(left / 2), math.ceil(of_twin / 2)
    each = sorted((asked.costs[arm.method].training(epochs) for arm in arms), reverse=True)[:left]
    each += [asked.costs[TWIN].training(epochs)] * (of_twin if of_twin > 1 else 0)
    return makespan(each, asked.lanes)


def seconds_of_final(methods: Sequence[str], finalists: int, seeds: int, epochs: int, asked: Asked) -> float:
    """At most: of the twin and the most expensive methods."""
    each = {name: asked.costs[name].training(epochs) + asked.costs[name].judge for name in (*methods, TWIN)}
    dearest = sorted((each[name] for name in methods), reverse=True)[:finalists]
    return makespan([*dearest, each[TWIN]] * seeds, asked.lanes)


def seconds_of_extra(extra: Extra, methods: Sequence[str], finalists: int, epochs: int, asked: Asked) -> float:
    """At most; most of other tracks measure time, alone."""
    each = {n: extra.seconds[n] + extra.trainings * asked.costs[n].training(epochs) for n in (*methods, TWIN)}
    return sum(sorted((each[name] for name in methods), reverse=True)[:finalists]) + each[TWIN]


def _shapes(asked: Asked) -> Iterator[Plan]:
    """Plans without their times and last epochs, the best first. epochs 1: without the doubling."""
    seeds = [len(asked.seeds), *(n for n in (LEAST_SEEDS, 2, 1) if n < len(asked.seeds))]
    for methods, count, doubling in itertools.product(_fewer(asked), seeds, (True, False)):
        for one_rate, most in itertools.product((False, True), FINALISTS):
            arms = tuple(
                arm for arm in asked.arms if arm.method in (*methods, TWIN) and (not one_rate or arm.rate == asked.own)
            )
            finalists = min(most, len(methods))
            rounds = halvings(sum(arm.method != TWIN for arm in arms), finalists)
            if not doubling and rounds == 0:
                continue
            for extras in _fewer_extras(asked):
                yield Plan(arms, asked.seeds[:count], finalists, extras, (0,) * rounds, 2 if doubling else 1, 0.0)


def _fewer(asked: Asked) -> Iterator[tuple[str, ...]]:
    """All methods, then without the most expensive, and so on."""
    by_cost = sorted(asked.methods, key=lambda name: asked.costs[name].training(1) + asked.costs[name].judge)
    for count in range(len(by_cost), 0, -1):
        left = by_cost[:count]
        yield tuple(name for name in asked.methods if name in left)


def _fewer_extras(asked: Asked) -> Iterator[tuple[str, ...]]:
    """All other tracks, then without the most expensive, and so on."""
    by_cost = sorted(asked.extras, key=lambda one: seconds_of_extra(one, asked.methods, len(asked.methods), 1, asked))
    for count in range(len(by_cost), -1, -1):
        left = [one.track for one in by_cost[:count]]
        yield tuple(one.track for one in asked.extras if one.track in left)


def _timed(asked: Asked, shape: Plan, epochs: int) -> Plan:
    """With the last round's epochs, those of the rounds before it, and the time that all take."""
    count = len(shape.rounds)
    rounds = tuple(max(1, epochs >> (count - number)) for number in range(count))
    planned = dataclasses.replace(shape, rounds=rounds, epochs=epochs)
    return dataclasses.replace(planned, seconds=_seconds(asked, planned) + _extras(asked, planned))


def _seconds(asked: Asked, planned: Plan) -> float:
    arms = [arm for arm in planned.arms if arm.method != TWIN]
    twin_arms = len(planned.arms) - len(arms)
    total = 0.0
    for number, epochs in enumerate(planned.rounds):
        # as long as the round before: its trainings are there already
        if number == 0 or epochs != planned.rounds[number - 1]:
            total += seconds_of_round(arms, twin_arms, number, epochs, asked)
    return total + seconds_of_final(planned.methods, planned.finalists, len(planned.seeds), planned.epochs, asked)


def _extras(asked: Asked, planned: Plan) -> float:
    return sum(
        seconds_of_extra(extra, planned.methods, planned.finalists, planned.grid_epochs, asked)
        for extra in asked.extras
        if extra.track in planned.extras
    )


def _fits(asked: Asked, planned: Plan, usable: float, budget: float) -> bool:
    return planned.seconds <= usable and _extras(asked, planned) <= EXTRAS_SHARE * budget
