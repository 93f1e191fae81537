# SPDX-License-Identifier: Apache-2.0
"""Trainings by whose held-out score the better half goes on: a track that a budget asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bittern.bench.budget.halving import Arm
from bittern.bench.tracks.held_out import held_out_result
from bittern.bench.tracks.learning_task import SCORE, training_count
from bittern.bench.tracks.overall import COMMON
from bittern.bench.tracks.problem import Problem, find
from bittern.bench.tracks.problems import PROBLEMS
from bittern.bench.tracks.stages import settings_of, stages_of
from bittern.bench.tracks.trainee import trainee_of
from bittern.bench.trials.track import Choice, Plan, Track, Work
from bittern.bench.trials.trial import CHOSEN_RATE, Done, Result, Trial


class Search(Track):
    """Trains with one seed and scores on the held-out part."""

    name = "budget_search"
    title = "Search within a budget"
    question = "Which methods and rates go on, by the held-out score?"
    metric = SCORE

    def __init__(self, problems: Sequence[Problem] = PROBLEMS) -> None:
        self.problems = tuple(problems)

    def plan(self, choice: Choice) -> Plan:
        return Plan((), (f"{self.name}: is planned by a budget alone.",))

    def trials(self, arms: Iterable[Arm], epochs: int, choice: Choice) -> dict[Arm, Trial]:
        """Of a choice of one task and one network."""
        problem, network = find(self.problems, choice.tasks[0]), choice.networks[0]
        found = {}
        settings = settings_of(problem, network, COMMON, None) | {"train_size": choice.train_size}
        for arm in arms:
            trial = Trial(self.name, problem.name, network, arm.method, COMMON, choice.seeds[0], epochs)
            found[arm] = trial.having(**settings, **{CHOSEN_RATE: arm.rate})
        return found

    def run(self, trial: Trial, work: Work) -> Result:
        trainee = trainee_of(self.problems, trial, work)
        problem, parts = trainee.problem, trainee.parts
        stages = stages_of(problem, trial, trainee.method, parts.choice, training_count(parts.choice))
        return held_out_result(problem, trainee.model(trial.seed), parts, stages, trial, work)

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        return {}
