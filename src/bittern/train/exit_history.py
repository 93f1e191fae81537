# SPDX-License-Identifier: Apache-2.0
"""How well each exit of a network does, epoch by epoch."""

from __future__ import annotations

import torch
from torch import nn

from bittern.nn._probe import eval_mode
from bittern.train.history import Epoch
from bittern.train.source import Part, test_batches
from bittern.train.tasks.many_exits import ManyExits


class ExitHistory:
    """The accuracy of every exit after every epoch: `train(..., task=task, on_epoch=ExitHistory(task, model, test))`.

    test: a dataset or a loader, as the second part of `train`'s data. It is run once more for this. Of a run that is
    resumed it has the epochs from there on; of a schedule-free optimizer it sees the weights to train, not those to
    judge. Raises: ValueError, TypeError for other data.
    """

    def __init__(self, task: ManyExits, model: nn.Module, test: Part) -> None:
        self._task, self._model, self._test = task, model, test
        self.epochs: list[dict[str, float]] = []
        """By the name of the exit."""

    def __call__(self, epoch: Epoch) -> None:
        device = next(self._model.parameters()).device
        with eval_mode(self._model), torch.random.fork_rng([]):
            batches = test_batches((self._test, self._test), device, self._task)
            self.epochs.append(self._task.accuracies(self._model, batches))
