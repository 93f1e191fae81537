# SPDX-License-Identifier: Apache-2.0
"""What a training run measured."""

from __future__ import annotations

from typing import NamedTuple


class Epoch(NamedTuple):
    """One row of the log."""

    epoch: int
    """Epochs finished, from 1."""
    step: int
    """Optimizer steps finished."""
    learning_rate: float
    """Of the last step."""
    train_loss: float
    """Mean over the epoch's batches, while the weights changed."""
    train_accuracy: float
    """Share in [0, 1], while the weights changed."""
    test_loss: float
    test_accuracy: float
    """Share in [0, 1]."""
    seconds: float
    """Wall time of the epoch, the test included."""


class History(NamedTuple):
    """All rows of a run, of before and after a resume alike."""

    epochs: tuple[Epoch, ...]

    @property
    def final(self) -> Epoch:
        return self.epochs[-1]

    @property
    def best(self) -> Epoch:
        """The first row with the highest test accuracy. Choosing by it is choosing on the test set: say so."""
        return max(self.epochs, key=lambda row: row.test_accuracy)
