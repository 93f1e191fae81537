"""Loss and accuracy on the test part of a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bittern.data.augment import normalize
from bittern.data.images import ImageData
from bittern.train.loss import CrossEntropy, Loss

BATCH = 500
"""Images per call. In eval mode an example's result does not depend on its neighbours, so this is only memory."""


class Evaluation(NamedTuple):
    loss: float
    """Mean over the examples."""
    accuracy: float
    """Share in [0, 1]."""


def evaluate(
    model: Callable[[Tensor], Tensor],
    data: ImageData,
    *,
    loss: Loss | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Evaluation:
    """Run `model` on the normalized test images of `data`, where the model and the data are on one device.

    model: a module (put into eval mode and back) or anything else callable; [batch, channels, h, w] -> logits.
    loss: cross-entropy when None. on_batch: called after every batch; what it raises ends the evaluation.

    Raises: ValueError when the model does not return one logit per class.
    """
    measure = CrossEntropy() if loss is None else loss
    device = data.test_images.device
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss_sum = 0.0
    training = isinstance(model, nn.Module) and model.training
    if isinstance(model, nn.Module):
        model.eval()
    try:
        with torch.no_grad():
            for images, labels in zip(
                torch.split(data.test_images, BATCH), torch.split(data.test_labels, BATCH), strict=True
            ):
                logits = model(normalize(images, data.mean, data.std)).float()
                check_logits(logits, len(labels), data)
                correct += (logits.argmax(1) == labels).sum()
                loss_sum += float(measure(logits, labels)) * len(labels)
                if on_batch is not None:
                    on_batch()
    finally:
        if isinstance(model, nn.Module):
            model.train(training)
    return Evaluation(loss_sum / len(data.test_labels), float(correct / len(data.test_labels)))


def check_logits(logits: Tensor, count: int, data: ImageData) -> None:
    """Refuse what is not one logit per image and class. Raises: ValueError."""
    if logits.shape != (count, len(data.classes)):
        raise ValueError(
            f"{data.name}: the model must return logits [{count}, {len(data.classes)}], one per class; "
            f"got {list(logits.shape)}; give the model num_classes={len(data.classes)}"
        )
