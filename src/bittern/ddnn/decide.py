# SPDX-License-Identifier: Apache-2.0
"""The order of exits: what is sure enough stops there, and only the rest goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bittern.ddnn.entropy import check_thresholds, normalized_entropy
from bittern.models.ddnn import CLOUD, EDGE, LOCAL, device_exit


class Places(ABC):
    """Where the parts of a network run for one batch: in this process, or on other machines.

    Each answers None for a place that is away.
    """

    has_edge: bool

    @abstractmethod
    def scores(self) -> list[Tensor | None]:
        """Class scores of every device, for all examples."""

    @abstractmethod
    def local(self, scores: Sequence[Tensor | None]) -> Tensor:
        """Scores of the local exit; at least one device is there."""

    @abstractmethod
    def features(self, rows: Tensor, away: Sequence[bool]) -> list[Tensor | None]:
        """Signs that devices send of these rows of the batch; a device that was away is not asked."""

    @abstractmethod
    def edge(self, features: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        """(signs, scores) of the edge; at least one device is there."""

    @abstractmethod
    def cloud(self, features: Sequence[Tensor | None]) -> Tensor | None:
        """Scores of the cloud, of the edge's signs or of the devices'."""


class NobodyThereError(ConnectionError):
    """No device answered, so there is nothing to say about an example."""


@dataclass(frozen=True)
class Answers:
    """What a network that is spread over places says of a batch."""

    classes: Tensor
    """int64 [batch]."""
    exits: tuple[str, ...]
    """By which exit each example left: "local", "edge" or "cloud"."""
    scores: Tensor
    """float32 [batch, classes], of that exit."""
    entropy: Tensor
    """Normalized, of these scores; float64 [batch]."""
    missing: tuple[str, ...] = ()
    """Places that did not answer, such as "device 2" or "cloud". Without them, examples that would have gone further
    have the answer of the exit before."""

    def share(self, exit: str) -> float:
        """How many of all examples left there, in [0, 1]; of none 0."""
        return self.exits.count(exit) / max(len(self.exits), 1)


class _Answered:
    """The latest scores of each example, and the exit that gave them."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores.clone()
        self.exits = [LOCAL] * len(scores)

    def put(self, rows: Tensor, scores: Tensor, exit: str) -> None:
        self.scores[rows] = scores
        for row in rows.tolist():
            self.exits[row] = exit

    def unsure(self, rows: Tensor, threshold: float) -> Tensor:
        """Those of these rows that go on: eta is not at most the threshold."""
        return rows[~(normalized_entropy(self.scores[rows]) <= threshold)]

    def result(self, missing: Sequence[str]) -> Answers:
        entropy = normalized_entropy(self.scores)
        return Answers(self.scores.argmax(1), tuple(self.exits), self.scores, entropy, tuple(dict.fromkeys(missing)))


def decide(places: Places, thresholds: Sequence[float]) -> Answers:
    """Ask one exit after the other; an example stops at the first whose normalized entropy is at most its threshold.

    thresholds: of the local exit, and of the edge where there is one. The cloud answers whatever is left. A part is
    not run at all where nothing is left for it.
    Raises: ValueError for thresholds outside [0, 1]; NobodyThereError.
    """
    wanted = check_thresholds(thresholds, (LOCAL, EDGE) if places.has_edge else (LOCAL,))
    said = places.scores()
    missing = [device_exit(index) for index, scores in enumerate(said) if scores is None]
    if len(missing) == len(said):
        raise NobodyThereError(f"ddnn: none of {len(said)} devices answered; start one, or wait longer")
    answered = _Answered(places.local(said))
    rows = answered.unsure(torch.arange(len(answered.scores)), wanted[0])
    if not len(rows):
        return answered.result(missing)
    features = places.features(rows, [scores is None for scores in said])
    missing += [device_exit(index) for index, signs in enumerate(features) if signs is None]
    if all(signs is None for signs in features):
        return answered.result(missing)
    if places.has_edge:
        signs, scores = places.edge(features)
        answered.put(rows, scores, EDGE)
        left = answered.unsure(rows, wanted[1])
        features, rows = [signs[torch.isin(rows, left)]], left
    if len(rows):
        final = places.cloud(features)
        if final is None:
            missing.append(CLOUD)
        else:
            answered.put(rows, final, CLOUD)
    return answered.result(missing)
