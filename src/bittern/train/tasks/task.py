# SPDX-License-Identifier: Apache-2.0
"""A task: the loss that a model lowers on a batch, and the score by which it is judged."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Batch = tuple[Tensor, ...]
"""Tensors [batch, ...], all for the same examples: by custom inputs first, then what is to be learned."""


class Measured(NamedTuple):
    """One batch."""

    loss: Tensor
    """Mean over its examples, 0-dim, to be differentiated."""
    score: Tensor
    """Sum over its examples, 0-dim; higher is better."""
    parts: tuple[tuple[str, Tensor], ...] = ()
    """What the loss is the sum of, by name, where it has parts."""


class Evaluation(NamedTuple):
    """The test part of a data set."""

    loss: float
    """Mean over the examples."""
    score: float
    """Mean over the examples, or whatever the task judges a whole set by; of a classification the accuracy."""

    @property
    def accuracy(self) -> float:
        """Share in [0, 1], of a classification."""
        return self.score


class Task(ABC):
    """What a model learns. One object may serve many runs: it keeps nothing of any.

    Give `train` and `evaluate` an own one for what is no classification: `metric` and `measure` are enough.
    """

    metric: str
    """What the score is called in logs, e.g. "accuracy": lower-case words joined by "_"."""

    items = "tensors"
    """What a dataset gives for one example, in words."""

    @abstractmethod
    def measure(self, model: Callable[..., Any], batch: Batch) -> Measured:
        """Run the model on a batch. Raises: ValueError, TypeError for a model or data that do not fit the task."""

    def check(self, batch: Batch, subject: str) -> Batch:
        """What a dataset or loader gave, as `measure` wants it. subject: who gave it. Raises: TypeError, ValueError."""
        return batch

    def evaluate(self, model: Callable[..., Any], batches: Iterable[Batch]) -> Evaluation:
        """Judge a model, in eval mode and without gradients, by the batches of a test set."""
        loss, score, count = 0.0, 0.0, 0
        for batch in batches:
            measured = self.measure(model, batch)
            size = len(batch[0])
            loss, score, count = loss + float(measured.loss) * size, score + float(measured.score), count + size
        return Evaluation(loss / count, score / count)

    def describe(self) -> str:
        """What a resumed run must find equal: the class, and its fields where it is a dataclass."""
        if dataclasses.is_dataclass(type(self)):
            return repr(self)
        return f"{type(self).__module__}.{type(self).__qualname__}"


def as_batch(item: Any, subject: str, device: torch.device, wanted: str) -> Batch:
    """A tensor, or a tuple or list of tensors, for the same examples, on the device. Raises: TypeError."""
    parts = tuple(item) if isinstance(item, (tuple, list)) else (item,)
    if not parts or not all(isinstance(part, Tensor) for part in parts):
        raise TypeError(f"train: {subject} must give {wanted}; got {kind_of(item)}")
    if any(part.ndim == 0 or len(part) != len(parts[0]) for part in parts):
        raise TypeError(
            f"train: {subject} must give tensors of as many examples each; got {[list(part.shape) for part in parts]}"
        )
    return tuple(part.to(device) for part in parts)


def kind_of(item: Any) -> str:
    """What a dataset gave, in words."""
    if isinstance(item, (tuple, list)):
        return f"({', '.join(type(part).__name__ for part in item)})"
    return type(item).__name__
