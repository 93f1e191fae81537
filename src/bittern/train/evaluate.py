# SPDX-License-Identifier: Apache-2.0
"""Loss and score on the test part of a data set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from bittern.data.folder import FolderData
from bittern.data.images import ImageData
from bittern.train.loss import Loss
from bittern.train.source import TrainingData, check_pair, classes_of, name_of, test_batches
from bittern.train.tasks.classification import Classification
from bittern.train.tasks.task import Batch, Evaluation, Task


def evaluate(
    model: Callable[..., Any],
    data: TrainingData,
    *,
    loss: Loss | None = None,
    task: Task | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Evaluation:
    """Run `model` on the test part of `data`: normalized images, or what a dataset or loader gives, as it is.

    model: a module (put into eval mode and back) or anything else callable, as the task calls it; for a classification
    [batch, ...] -> logits [batch, classes]. data: as in `train`. Images in memory must be on the model's device; all
    others are brought there. loss: of the classification; cross-entropy when None. task: what is judged; None: the
    classification. on_batch: called after every batch; what it raises ends the evaluation. Random draws of a loader
    leave torch's generators as they were.

    Raises: ValueError when the model does not return what the task wants, or for `loss` beside a task; TypeError,
    ValueError for other data.
    """
    if not isinstance(data, (ImageData, FolderData)):
        check_pair(data)
    if task is not None and loss is not None:
        raise ValueError("evaluate: a task has its own loss; leave out one of them")
    judged = task or classification_of(data, loss)
    device = _device(model, data)
    training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            return judged.evaluate(model, _watched(test_batches(data, device, judged), on_batch))
    finally:
        if isinstance(model, nn.Module):
            model.train(training)


def classification_of(data: TrainingData, loss: Loss | None = None) -> Classification:
    """The classification of data, as far as they say what it is."""
    known = Classification(classes=classes_of(data), data=name_of(data))
    return known if loss is None else dataclasses.replace(known, loss=loss)


def _watched(batches: Iterator[Batch], on_batch: Callable[[], None] | None) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        if on_batch is not None:
            on_batch()


def _device(model: Callable[..., Any], data: TrainingData) -> torch.device:
    if isinstance(data, ImageData):
        return data.test_images.device
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if first is None else first.device
