# SPDX-License-Identifier: Apache-2.0
"""Loss and accuracy on the test part of a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bittern.data.folder import FolderData
from bittern.data.images import ImageData
from bittern.train.loss import CrossEntropy, Loss
from bittern.train.source import TrainingData, check_pair, classes_of, name_of, test_batches


class Evaluation(NamedTuple):
    loss: float
    """Mean over the examples."""
    accuracy: float
    """Share in [0, 1]."""


def evaluate(
    model: Callable[[Tensor], Tensor],
    data: TrainingData,
    *,
    loss: Loss | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Evaluation:
    """Run `model` on the test part of `data`: normalized images, or what a dataset or loader gives, as it is.

    model: a module (put into eval mode and back) or anything else callable; [batch, ...] -> logits [batch, classes].
    data: as in `train`. Images in memory must be on the model's device; all others are brought there.
    loss: cross-entropy when None. on_batch: called after every batch; what it raises ends the evaluation. Random draws
    of a loader leave torch's generators as they were.

    Raises: ValueError when the model does not return one logit per class; TypeError, ValueError for other data.
    """
    if not isinstance(data, (ImageData, FolderData)):
        check_pair(data)
    measure = CrossEntropy() if loss is None else loss
    device = _device(model, data)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss_sum, count = 0.0, 0
    training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng([]):
            for inputs, labels in test_batches(data, device):
                logits = model(inputs).float()
                check_logits(logits, labels, data)
                correct += (logits.argmax(1) == labels).sum()
                loss_sum += float(measure(logits, labels)) * len(labels)
                count += len(labels)
                if on_batch is not None:
                    on_batch()
    finally:
        if isinstance(model, nn.Module):
            model.train(training)
    return Evaluation(loss_sum / count, float(correct / count))


def check_logits(logits: Tensor, labels: Tensor, data: TrainingData) -> None:
    """Refuse what is not one logit per input and class. Raises: ValueError."""
    count, classes = len(labels), classes_of(data)
    if classes is not None:
        if logits.shape != (count, classes):
            raise ValueError(
                f"{name_of(data)}: the model must return logits [{count}, {classes}], one per class; "
                f"got {list(logits.shape)}; give the model num_classes={classes}"
            )
        return
    if logits.ndim != 2 or len(logits) != count:
        raise ValueError(
            f"{name_of(data)}: the model must return logits [{count}, classes]; got {list(logits.shape)}; give it a "
            "linear layer at its end"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(
            f"{name_of(data)}: labels must lie in 0 ... {logits.shape[1] - 1}, the model's classes; "
            f"got {low} ... {high}"
        )


def _device(model: Callable[[Tensor], Tensor], data: TrainingData) -> torch.device:
    if isinstance(data, ImageData):
        return data.test_images.device
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if first is None else first.device
