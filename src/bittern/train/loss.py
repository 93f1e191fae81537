# SPDX-License-Identifier: Apache-2.0
"""Losses on logits [batch, classes]; each is a mean over the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from bittern.estimators import quantized_error

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits [batch, classes], labels int64 [batch]) -> mean over the batch, 0-dim."""


@dataclass(frozen=True, slots=True)
class CrossEntropy:
    """-sum_c q_c log softmax(z)_c with q = (1 - s) onehot(label) + s / classes, s = label_smoothing in [0, 1).

    Raises: ValueError for a smoothing outside [0, 1). Source: 1512.00567, section 7.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"CrossEntropy: label_smoothing must lie in [0, 1); got {self.label_smoothing}")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)


@dataclass(frozen=True, slots=True)
class SquaredHinge:
    """BNN's loss (1602.02830): mean over batch and classes of max(0, 1 - t z)^2, t = +1 at the label, -1 elsewhere."""

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        targets = 2.0 * F.one_hot(labels, logits.shape[1]).to(logits.dtype) - 1.0
        return (1.0 - targets * logits).clamp_min(0.0).square().mean()


@dataclass(frozen=True, slots=True)
class SumOfSquares:
    """WAGE's loss (1802.04680): mean over the batch of sum over classes of (t - z)^2 / 2, t = 1 at the label, else 0.

    error_bits: of the gradient of z, which is shifted by a power of two and put on the grid of so many bits, as
    `bittern.quant.WAGE` does with those of its inputs; None leaves it. Raises: ValueError for bits outside 2 ... 15.
    """

    error_bits: int | None = None

    def __post_init__(self) -> None:
        if self.error_bits is not None and not 2 <= self.error_bits <= 15:
            raise ValueError(f"SumOfSquares: error_bits must be None or from 2 to 15; got {self.error_bits}")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.error_bits is not None:
            logits = quantized_error(logits, self.error_bits)
        targets = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
        return 0.5 * (targets - logits).square().sum(1).mean()


@dataclass(frozen=True, slots=True)
class Distillation:
    """How a teacher's logits enter: (1 - weight) * loss(labels) + weight * distributional loss.

    The distributional loss is T^2 * cross-entropy(softmax(teacher / T), softmax(student / T)). weight=1 and T=1 is
    ReActNet's (2003.03488, section 4.3), which uses no label; T^2 keeps gradients comparable over T (1503.02531).

    Raises: ValueError for a weight outside (0, 1] or a temperature that is not positive and finite.
    """

    weight: float = 1.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.weight <= 1.0:
            raise ValueError(f"Distillation: weight must lie in (0, 1]; got {self.weight}; leave it out instead of 0")
        if not 0.0 < self.temperature < float("inf"):
            raise ValueError(f"Distillation: temperature must be positive and finite; got {self.temperature}")

    def __call__(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The distributional loss of logits [batch, classes]."""
        t = self.temperature
        return t * t * F.cross_entropy(student / t, (teacher / t).softmax(1))
