# SPDX-License-Identifier: Apache-2.0
"""How much of its accuracy a method keeps in convolutional networks, transformers and perceptrons.

    OM_arch = sqrt( ( E_CNN^2 + E_Transformer^2 + E_MLP^2 ) / 3 ),   E = mean of A_method / A_twin of a family

over the family's networks and tasks and their seeds. A method gets the figure when it has all three.
Derivation: BiBench (arXiv 2301.11233) takes the quadratic mean over the three families of the mean relative accuracy
within each; its text was not at hand, and the formula follows that meaning.
Differences: BiBench's families are trained on different tasks; here all are on each task. The trainings are those of
`LearningTask` with each network, and are made once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import get_args

from bittern.bench.tracks.learning_task import SCORE, LearningTask
from bittern.bench.tracks.overall import beside_twins, complete, means_by, quadratic_mean, share_of
from bittern.bench.tracks.planning import cells, check_trainings, trainings, without_papers
from bittern.bench.tracks.problem import Family, Problem, find
from bittern.bench.tracks.problems import PROBLEMS
from bittern.bench.trials.track import Choice, Plan, Track, Work
from bittern.bench.trials.trial import Done, Result, Trial

FAMILIES: tuple[str, ...] = get_args(Family)
FAMILY = "family"


class NeuralArchitecture(Track):
    """Sets networks of three families side by side, on the problems that have all of them."""

    name = "neural_architecture"
    title = "Neural architecture"
    question = "Which kind of network keeps its accuracy: CNN, transformer or MLP?"
    metric = SCORE

    def __init__(self, problems: Sequence[Problem] = PROBLEMS) -> None:
        self.problems = tuple(problems)

    def plan(self, choice: Choice) -> Plan:
        check_trainings(choice)
        found = cells(self.problems, choice, lambda problem: tuple(problem.networks))
        wide = tuple(cell for cell in found.found if not _lacking(cell[0]))
        narrow = [f"{p.name}: has no {_lacking(p)}." for p, _ in found.found if _lacking(p)]
        planned = tuple(self._marked(trial) for trial in trainings(self.name, found._replace(found=wide), choice))
        return Plan(planned, (*found.dropped, *narrow, *without_papers(choice)))

    def needs(self, trial: Trial) -> Sequence[Trial]:
        """The training."""
        return (dataclasses.replace(trial.without(FAMILY), track=LearningTask.name),)

    def run(self, trial: Trial, work: Work) -> Result:
        (training,) = self.needs(trial)
        found = work.needed[training.key].result
        return Result(found.metrics, notes=("Trained as a trial of the learning tasks.",))

    def overall(self, done: Sequence[Done]) -> Mapping[str, float]:
        family = {
            (one.trial.task, one.trial.network): str(one.trial.setting(FAMILY))
            for one in done
            if one.trial.track == self.name
        }
        found = {}
        for method, places in complete(beside_twins(done, self.name, share_of(SCORE))).items():
            means = means_by(places, lambda task, network: family[task, network])
            if means.keys() == set(FAMILIES):
                found[method] = quadratic_mean(means.values())
        return found

    def _marked(self, trial: Trial) -> Trial:
        family = find(self.problems, trial.task).network(trial.network).family
        return trial.having(family=family)


def _lacking(problem: Problem) -> str:
    """Families of which the problem has no network."""
    there = {network.family for network in problem.networks.values()}
    return ", ".join(family for family in FAMILIES if family not in there)
