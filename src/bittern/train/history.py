# SPDX-License-Identifier: Apache-2.0
"""What a training run measured."""

from __future__ import annotations

from typing import NamedTuple

ACCURACY = "accuracy"
SKIPPED = "skipped_steps"


def columns(metric: str) -> tuple[str, ...]:
    """What the logs call the numbers of a row, whose scores are called `metric`."""
    measured = (f"{part}_{what}" for part in ("train", "test") for what in ("loss", metric))
    return ("epoch", "step", "learning_rate", *measured, "seconds")


def column_of(part: str) -> str:
    """What the logs call a part of the loss."""
    return f"train_loss_{part}"


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
    train_score: float
    """Mean over the epoch's examples, while the weights changed; higher is better. Of a classification the accuracy."""
    test_loss: float
    test_score: float
    seconds: float
    """Wall time of the epoch, the test included."""
    metric: str = ACCURACY
    """What the scores are called."""
    watched: tuple[tuple[str, float], ...] = ()
    """What `watch_weights` found, by name (`bittern.train.watch`)."""
    losses: tuple[tuple[str, float], ...] = ()
    """What `train_loss` is the sum of, by name, where losses were added: "task", and each times its weight."""
    skipped: int | None = None
    """Steps whose gradients overflowed float16, so that they changed no weight; None where the loss is not scaled."""

    @property
    def train_accuracy(self) -> float:
        """Share in [0, 1], of a classification. Raises: AttributeError for another task."""
        return self._accuracy(self.train_score)

    @property
    def test_accuracy(self) -> float:
        """Share in [0, 1], of a classification. Raises: AttributeError for another task."""
        return self._accuracy(self.test_score)

    def _accuracy(self, score: float) -> float:
        if self.metric != ACCURACY:
            raise AttributeError(f"this run has no accuracy but {self.metric}; read train_score and test_score")
        return score

    def named(self) -> dict[str, float]:
        """The row as the logs have it, with scores under their metric's name, parts of the loss, and the watch."""
        numbers: tuple[float, ...] = self[:8]
        row = dict(zip(columns(self.metric), numbers, strict=True))
        skipped = {} if self.skipped is None else {SKIPPED: float(self.skipped)}
        return {**row, **{column_of(name): value for name, value in self.losses}, **skipped, **dict(self.watched)}


class History(NamedTuple):
    """All rows of a run, of before and after a resume alike."""

    epochs: tuple[Epoch, ...]

    @property
    def final(self) -> Epoch:
        return self.epochs[-1]

    @property
    def best(self) -> Epoch:
        """The first row with the highest test score. Choosing by it is choosing on the test set: say so."""
        return max(self.epochs, key=lambda row: row.test_score)
