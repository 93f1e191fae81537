# SPDX-License-Identifier: Apache-2.0
"""The driver of a budget: measure, plan, let rounds decide, train the last one, and keep what was left out.

All of it are trials of the store, the plan too, so that the same command goes on where it was killed, by the same plan.
The time of trials that an earlier call finished counts against the budget; what a killed one had begun does not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from bittern.bench.budget import record, words
from bittern.bench.budget.asking import FACTORS, Asking, Clock
from bittern.bench.budget.extras import extras_of
from bittern.bench.budget.halving import (
    MOST_EPOCHS,
    Arm,
    Asked,
    Plan,
    TooSmallError,
    best_of_each,
    better_half,
    plan,
    ranked,
    seconds_of_final,
)
from bittern.bench.budget.measure import Measured, cost_of
from bittern.bench.budget.search import Search
from bittern.bench.tracks.learning_task import SCORE, LearningTask
from bittern.bench.tracks.overall import COMMON
from bittern.bench.tracks.planning import cells, check_trainings
from bittern.bench.tracks.problem import Problem
from bittern.bench.trials.executor import Executor
from bittern.bench.trials.order import Order, of_trials
from bittern.bench.trials.runner import Summary, carry_out
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.track import Track
from bittern.bench.trials.trial import TWIN, Result, Trial


def run(asking: Asking, store: TrialStore, executor: Executor) -> Summary:
    """Spend the budget, an equal part for each task and network, and say what was left out.

    Finishes within it, plus the trials that run when it is over. Raises: ValueError for what cannot be planned, and
    TooSmallError for a budget that no plan fits into; else as `bench.trials.runner.run`.
    """
    check_trainings(asking.choice)
    if not any(track.name == LearningTask.name for track in asking.tracks):
        raise ValueError("bench run: a budget plans trainings; give --track learning_task too, or leave out --track")
    if asking.choice.recipes != (COMMON,):
        raise ValueError("bench run: a budget plans trainings by the common recipe; leave out --recipe with --budget")
    found = cells(asking.problems, asking.choice, lambda problem: tuple(problem.networks)[:1])
    places = [(problem, network) for problem, networks in found.found for network in networks]
    if not places:
        raise ValueError(f"bench run: no task is left for a budget: {' '.join(found.dropped)}")
    each = dataclasses.replace(asking, seconds=asking.seconds / len(places))
    summaries = []
    try:
        for problem, network in places:
            summaries.append(_Cell(each, problem, network, store, executor).go())
            each = dataclasses.replace(each, began=None)
    except TooSmallError as error:
        raise TooSmallError(asking.seconds, error.least * len(places)) from None
    return _together(summaries, found.dropped)


class _Cell:
    """One task and network."""

    def __init__(self, asking: Asking, problem: Problem, network: str, store: TrialStore, executor: Executor) -> None:
        self.asking, self.store, self.executor = asking, store, executor
        self.problem, self.network = problem, network
        self.choice = dataclasses.replace(asking.choice, tasks=(problem.name,), networks=(network,))
        self.clock = Clock(asking.seconds, executor.lanes, time.monotonic() if asking.began is None else asking.began)
        self.own = problem.network(network).learning_rate or problem.recipe.learning_rate
        self.measured, self.search = Measured(asking.problems), Search(asking.problems)
        self.summaries: list[Summary] = []
        self.unmeasured = 0
        """Methods that the budget was over for."""
        self.seen: set[str] = set()
        """Keys of trials whose time is counted."""
        self.lines: list[str] = []

    def go(self) -> Summary:
        costs = self._measure()
        end = self._trial(record.END)
        planned, asked = self._plan(costs)
        if self.store.has(end):
            # what it left out stays out; the time of a plan is spent once
            self.clock.before = math.inf
        chosen, twin = self._rounds(planned, asked)
        self._final(planned, chosen, twin)
        self._end(end)
        return _together(self.summaries, self.lines)

    def _measure(self) -> dict[str, Result]:
        """method -> what its trials cost; those that fail are left out."""
        trials = [trial.having(threads=self.asking.threads) for trial in self.measured.plan(self.choice).trials]
        # the twin and one method are measured whatever the budget is, since the least one is named by them
        found = self._carry_out(trials[:2], self.measured, alone=True, hurry=False)
        found |= self._carry_out(trials[2:], self.measured, alone=True)
        if TWIN not in found:
            failed = [one for summary in self.summaries for one in (*summary.failed, *summary.failed_before)]
            why = next((one.error for one in failed if one.trial.method == TWIN), "it was not measured")
            raise ValueError(f"bench run: no float twin of {self.network} to plan beside: {why}")
        self.unmeasured = len(self.summaries[-1].late)
        return found

    def _plan(self, costs: Mapping[str, Result]) -> tuple[Plan, Asked]:
        """The one of the store, or a new one, which is told and kept."""
        choice = dataclasses.replace(self.choice, methods={n: m for n, m in self.choice.methods.items() if n in costs})
        if not choice.methods:
            raise ValueError(f"bench run: no method can be measured on {self.network}; bench ls says why")
        rates = self.asking.rates or tuple(factor * self.own for factor in FACTORS)
        own = min(rates, key=lambda rate: abs(math.log(rate / self.own)))
        arms = [Arm(name, rate) for name in (*choice.methods, TWIN) for rate in rates]
        extras, dropped = extras_of(self.asking.tracks, self.problem, choice, costs)
        failed = [name for name in self.choice.methods if name not in costs]
        dropped = (*(f"{name}: it was not measured, or that failed." for name in failed), *dropped)
        asked = Asked(
            tuple(arms),
            own,
            choice.seeds,
            {name: cost_of(result) for name, result in costs.items()},
            extras,
            self.executor.lanes,
            self.asking.epochs or MOST_EPOCHS,
        )
        self.choice = choice
        trial = self._trial(record.PLAN)
        there = self.store.get(trial)
        if there is not None:
            planned, notes = record.plan_of(there), there.result.notes
        else:
            left = 0.0 if self.unmeasured else max(self.asking.seconds - self.clock.spent, 0.0)
            try:
                planned = plan(asked, left)
            except TooSmallError as error:
                measuring = self.clock.spent * (1 + self.unmeasured / len(costs))
                raise TooSmallError(self.asking.seconds, error.least + math.ceil(measuring)) from None
            out = [*words.dropped(planned, asked, left), *dropped]
            notes = (*words.told(planned, asked, self.asking.seconds, left), *(record.LEFT_OUT + line for line in out))
            result = record.plan_result(planned, self.asking.seconds, left, notes)
            record.keep(self.store, trial, self.asking.command, result)
        for line in notes:
            self.asking.say(line)
        self.lines += [line.removeprefix(record.LEFT_OUT) for line in notes if line.startswith(record.LEFT_OUT)]
        return planned, asked

    def _rounds(self, planned: Plan, asked: Asked) -> tuple[tuple[Arm, ...], Arm]:
        """The finalists, each at its best rate, and the twin's best."""
        arms = tuple(arm for arm in planned.arms if arm.method != TWIN)
        twins = tuple(arm for arm in planned.arms if arm.method == TWIN)
        # a search that takes longer than was measured ends before it takes the time of the trainings that count
        reserve = seconds_of_final(planned.methods, planned.finalists, len(planned.seeds), planned.epochs, asked)
        for number, epochs in enumerate(planned.rounds, 1):
            tried = (*arms, *(twins if len(twins) > 1 else ()))
            trials = self.search.trials(tried, epochs, self.choice)
            found = self._carry_out(trials.values(), self.search, reserve=reserve, by=lambda trial: trial.key)
            scores = {arm: found[t.key].metrics[SCORE] for arm, t in trials.items() if t.key in found}
            if self.summaries[-1].late:
                self._note(
                    f"round {number}: its time was over before all of it was trained; the last round keeps its own."
                )
                # what was not tried cannot be dropped for its score; those that were go on
                return self._finalists(scores, arms, twins, planned, asked)
            last = number == len(planned.rounds)
            arms = self._halved(number, arms, scores, asked, planned.finalists if last else None)
            twins = self._halved(number, twins, scores, asked, 1 if last else None) if len(twins) > 1 else twins
            if not arms:
                raise ValueError(f"bench run: every training of round {number} failed; bench ls says why")
        return best_of_each(arms, planned.finalists), (twins or (self._own_twin(planned),))[0]

    def _halved(
        self, number: int, arms: Sequence[Arm], scores: Mapping[Arm, float], asked: Asked, finalists: int | None
    ) -> tuple[Arm, ...]:
        """The better half; behind the last round the best of each method instead, so many of them."""
        scored = [(arm, scores.get(arm)) for arm in arms]
        if finalists is None:
            kept = better_half(scored, asked.costs)
        else:
            kept = best_of_each(ranked(scored, asked.costs), finalists)
        least = scores[kept[-1]] if kept else None
        for arm in arms:
            if arm not in kept:
                self._note(words.went_out(number, arm, scores.get(arm), least))
        return kept

    def _finalists(
        self, scores: Mapping[Arm, float], arms: Sequence[Arm], twins: Sequence[Arm], planned: Plan, asked: Asked
    ) -> tuple[tuple[Arm, ...], Arm]:
        by_score = ranked([(arm, scores.get(arm)) for arm in arms], asked.costs)
        of_twin = ranked([(arm, scores.get(arm)) for arm in twins], asked.costs)
        return best_of_each(by_score or arms, planned.finalists), (of_twin or (self._own_twin(planned),))[0]

    def _own_twin(self, planned: Plan) -> Arm:
        """Where no training of it says which rate is best."""
        return next(arm for arm in planned.arms if arm.method == TWIN)

    def _final(self, planned: Plan, chosen: Sequence[Arm], twin: Arm) -> None:
        """The trainings that count, seed by seed, then the other tracks."""
        rates = {arm.method: arm.rate for arm in (*chosen, twin)}
        choice = dataclasses.replace(
            self.choice,
            methods={arm.method: self.choice.methods[arm.method] for arm in chosen},
            seeds=planned.seeds,
            epochs=planned.epochs,
            rates=rates,
        )
        for track in self.asking.tracks:
            if track.name != LearningTask.name and track.name not in planned.extras:
                continue
            epochs = planned.grid_epochs if track.name == "training_consumption" else planned.epochs
            asked_of = track.plan(dataclasses.replace(choice, epochs=epochs))
            self.lines += [line for line in asked_of.dropped if line not in self.lines]
            self._carry_out(asked_of.trials, track)
            late, count = len(self.summaries[-1].late), len(asked_of.trials)
            if late:
                self._note(f"{track.name}: {late} of {count} trials were not begun, for the budget was over.")

    def _carry_out(
        self,
        trials: Iterable[Trial],
        track: Track,
        *,
        alone: bool = False,
        hurry: bool = True,
        reserve: float = 0.0,
        by: Callable[[Trial], str] = lambda trial: trial.method,
    ) -> dict[str, Result]:
        """Those of the store, and those that there is time for, by their methods or keys. hurry: none begins late.

        reserve: seconds of the budget that are for others.
        """
        known = [*self.asking.tracks, self.measured, self.search, track]
        order: Order = of_trials(trials, known)
        fresh = [one.trial for one in order.trials if one.trial.key not in self.seen]
        before = [self.store.get(trial) for trial in fresh]
        self.clock.charge((one.seconds for one in before if one is not None), alone=alone)
        self.seen |= {trial.key for trial in fresh}
        summary = carry_out(
            order,
            self.choice,
            self.store,
            self.executor,
            command=self.asking.command,
            work=self.asking.work,
            threads=self.asking.threads,
            retry_failed=self.asking.retry_failed,
            until=self.clock.until - reserve if hurry else math.inf,
            on_event=self.asking.on_event,
        )
        self.summaries.append(summary)
        found = [self.store.get(one.trial) for one in order.trials]
        return {by(one.trial): one.result for one in found if one is not None}

    def _end(self, trial: Trial) -> None:
        there = self.store.get(trial)
        if there is not None:
            self.lines += [line for line in record.left_out(there) if line not in self.lines]
            self.asking.say("This budget was spent before; a larger one goes on from what the store has.")
            return
        spent = self.clock.spent
        first = f"Spent {words.span(spent)} of {words.span(self.asking.seconds)}."
        out = [line for line in self.lines if line not in self._planned_out()]
        notes = (first, *(record.LEFT_OUT + line for line in out))
        record.keep(self.store, trial, self.asking.command, Result({"spent": spent}, notes=notes))
        self.asking.say(first)

    def _planned_out(self) -> tuple[str, ...]:
        there = self.store.get(self._trial(record.PLAN))
        return () if there is None else record.left_out(there)

    def _note(self, line: str) -> None:
        self.lines.append(line)

    def _trial(self, track: str) -> Trial:
        """Of all that was asked for."""
        choice = self.asking.choice
        asked = (
            *(sorted(choice.methods), choice.seeds, self.asking.rates, self.asking.epochs),
            *([one.name for one in self.asking.tracks], self.asking.threads),
        )
        first = self.measured.plan(self.choice).trials[0]
        digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:12]
        return dataclasses.replace(first, track=track, recipe="").having(asked=digest, budget=self.asking.seconds)


def _together(summaries: Sequence[Summary], dropped: Iterable[str]) -> Summary:
    return Summary(
        total=sum(one.total for one in summaries),
        known=sum(one.known for one in summaries),
        done=sum(one.done for one in summaries),
        failed=tuple(dict.fromkeys(failed for one in summaries for failed in one.failed)),
        failed_before=tuple(dict.fromkeys(failed for one in summaries for failed in one.failed_before)),
        blocked=tuple(dict.fromkeys(trial for one in summaries for trial in one.blocked)),
        dropped=tuple(dict.fromkeys([*(line for one in summaries for line in one.dropped), *dropped])),
        late=tuple(dict.fromkeys(trial for one in summaries for trial in one.late)),
    )
