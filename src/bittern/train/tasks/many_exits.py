# SPDX-License-Identifier: Apache-2.0
"""One class of several, asked of every exit of a network at once (DDNN, ICDCS 2017; BranchyNet, 1709.01686)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.train.history import ACCURACY
from bittern.train.tasks.task import Batch, Measured, Task, kind_of


@dataclass(frozen=True)
class ManyExits(Task):
    """Learn class numbers at all exits together; the score is the accuracy of the last.

    model: inputs -> a mapping from the name of each exit, in their order, to its scores [batch, classes]. batch:
    (input, ..., input, labels int64 [batch]); the model gets all inputs, a DDNN as many as there are devices.
    weights: of each exit's loss, by name; None: 1 each, as the authors have it.

    Formula: loss = sum over exits of weight * mean cross-entropy.
    Raises: ValueError for weights that are not those of the exits, scores of another shape, labels that are no class.
    """

    weights: Mapping[str, float] | None = None
    metric = ACCURACY
    items = "(input, ..., input, label), all tensors"

    def measure(self, model: Callable[..., Any], batch: Batch) -> Measured:
        *inputs, labels = batch
        exits = self._exits(model, inputs, labels)
        weights = self._weights(exits)
        losses = [F.cross_entropy(scores, labels) * weights[name] for name, scores in exits.items() if weights[name]]
        last = list(exits.values())[-1]
        return Measured(torch.stack(losses).sum(), (last.detach().argmax(1) == labels).sum())

    def check(self, batch: Batch, subject: str) -> Batch:
        if len(batch) < 2:
            raise TypeError(f"train: {subject} must give {self.items}; got {kind_of(batch)}")
        labels = batch[-1]
        integer = not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool
        if not integer or labels.ndim != 1:
            raise TypeError(
                f"train: {subject} must give one integer label per example, last; got {labels.dtype} "
                f"{list(labels.shape)}"
            )
        return *batch[:-1], labels.to(torch.int64)

    def accuracies(self, model: Callable[..., Any], batches: Iterable[Batch]) -> dict[str, float]:
        """Share in [0, 1] that each exit gets right by itself. Raises: ValueError without an example."""
        right: dict[str, int] = {}
        count = 0
        with torch.no_grad():
            for *inputs, labels in batches:
                for name, scores in self._exits(model, inputs, labels).items():
                    right[name] = right.get(name, 0) + int((scores.argmax(1) == labels).sum())
                count += len(labels)
        if not count:
            raise ValueError("ManyExits: needs at least one example to judge exits by; got none")
        return {name: hits / count for name, hits in right.items()}

    def _exits(self, model: Callable[..., Any], inputs: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        found = model(*inputs)
        if not isinstance(found, Mapping) or not found:
            raise ValueError(f"ManyExits: the model must return a mapping of exits to scores; got {kind_of(found)}")
        exits = {name: scores.float() for name, scores in found.items()}
        low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
        for name, scores in exits.items():
            if scores.ndim != 2 or len(scores) != len(labels):
                raise ValueError(
                    f"ManyExits: exit {name!r} must give scores [{len(labels)}, classes]; got {list(scores.shape)}"
                )
            if low < 0 or high >= scores.shape[1]:
                raise ValueError(
                    f"ManyExits: labels must lie in 0 ... {scores.shape[1] - 1}, the classes of exit {name!r}; "
                    f"got {low} ... {high}"
                )
        return exits

    def _weights(self, exits: Mapping[str, Tensor]) -> Mapping[str, float]:
        if self.weights is None:
            return dict.fromkeys(exits, 1.0)
        sound = all(weight >= 0.0 for weight in self.weights.values()) and any(self.weights.values())
        if set(self.weights) != set(exits) or not sound:
            raise ValueError(
                f"ManyExits: weights must have a number of at least 0 for each of {', '.join(exits)}, one above 0; "
                f"got {dict(self.weights)}"
            )
        return self.weights
