# SPDX-License-Identifier: Apache-2.0
"""One class of several for each input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bittern.data.batches import Batch as LabelledBatch
from bittern.train.loss import CrossEntropy, Distillation, Loss
from bittern.train.tasks.task import Batch, Evaluation, Measured, Task, kind_of


@dataclass(frozen=True)
class Classification(Task):
    """Learn class numbers; the score is the accuracy.

    model: inputs [batch, ...] -> logits [batch, classes]. batch: (inputs, labels int64 [batch]).
    loss: on logits and labels. distillation: how the logits of `teacher` enter; both or none.
    classes: how many there are, where that is known. data: what a message calls the data.

    Raises: ValueError when the model does not return one logit per class, or a label is none of its classes.
    """

    loss: Loss = field(default_factory=CrossEntropy)
    distillation: Distillation | None = None
    teacher: nn.Module | None = None
    classes: int | None = None
    data: str = "data"
    metric = "accuracy"
    items = "(inputs, labels), both tensors"

    def measure(self, model: Callable[..., Any], batch: Batch) -> Measured:
        inputs, labels = batch
        logits = self._logits(model, inputs, labels)
        correct = (logits.detach().argmax(1) == labels).sum()
        if self.teacher is None or self.distillation is None:
            return Measured(self.loss(logits, labels), correct)
        with torch.no_grad():
            taught = self._logits(self.teacher, inputs, labels)
        mixed = self.distillation(logits, taught) * self.distillation.weight
        if self.distillation.weight < 1.0:
            mixed = mixed + (1.0 - self.distillation.weight) * self.loss(logits, labels)
        return Measured(mixed, correct)

    def evaluate(self, model: Callable[..., Any], batches: Iterable[Batch]) -> Evaluation:
        """By labels alone."""
        alone = dataclasses.replace(self, distillation=None, teacher=None)
        return super(Classification, alone).evaluate(model, batches)

    def check(self, batch: Batch, subject: str) -> Batch:
        if len(batch) != 2:
            raise TypeError(f"train: {subject} must give {self.items}; got {kind_of(batch)}")
        inputs, labels = batch
        integer = not labels.is_floating_point() and not labels.is_complex() and labels.dtype != torch.bool
        if not integer or labels.shape != inputs.shape[:1]:
            raise TypeError(
                f"train: {subject} must give one integer label per input; got labels {labels.dtype} "
                f"{list(labels.shape)} for inputs {list(inputs.shape)}"
            )
        return LabelledBatch(inputs, labels.to(torch.int64))

    def _logits(self, model: Callable[..., Any], inputs: Tensor, labels: Tensor) -> Tensor:
        logits: Tensor = model(inputs).float()
        count = len(labels)
        if self.classes is not None:
            if logits.shape != (count, self.classes):
                raise ValueError(
                    f"{self.data}: the model must return logits [{count}, {self.classes}], one per class; "
                    f"got {list(logits.shape)}; give the model num_classes={self.classes}"
                )
            return logits
        if logits.ndim != 2 or len(logits) != count:
            raise ValueError(
                f"{self.data}: the model must return logits [{count}, classes]; got {list(logits.shape)}; give it a "
                "linear layer at its end"
            )
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= logits.shape[1]:
            raise ValueError(
                f"{self.data}: labels must lie in 0 ... {logits.shape[1] - 1}, the model's classes; "
                f"got {low} ... {high}"
            )
        return logits
