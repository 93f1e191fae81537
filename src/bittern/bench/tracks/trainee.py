# SPDX-License-Identifier: Apache-2.0
"""What a trial trains, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from bittern.bench.core.training import fresh
from bittern.bench.tracks.parts import Parts
from bittern.bench.tracks.problem import Network, Problem, find
from bittern.bench.trials.track import Work
from bittern.bench.trials.trial import TWIN, Trial
from bittern.quantizer import Method


class Trainee(NamedTuple):
    """method: None for the float twin. parts: the examples, with as many to train on as the trial says."""

    problem: Problem
    network: Network
    method: Method | None
    parts: Parts

    def model(self, seed: int) -> nn.Module:
        """A fresh one, which depends on the seed alone."""
        return fresh(lambda: self.network.build(self.method), seed)


def trainee_of(problems: Sequence[Problem], trial: Trial, work: Work) -> Trainee:
    """Of a trial with the setting train_size. Raises: what `find` and `Problem.load` raise."""
    problem = find(problems, trial.task)
    method = None if trial.method == TWIN else work.methods[trial.method]
    train_size = trial.setting("train_size")
    assert train_size is None or isinstance(train_size, int)
    return Trainee(problem, problem.network(trial.network), method, problem.load(work.data, train_size))
