# SPDX-License-Identifier: Apache-2.0
"""What thresholds of the exits cost and gain, and which to take."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bittern.ddnn.entropy import check_thresholds, normalized_entropy
from bittern.models.ddnn import CLOUD, EDGE, LOCAL

STEPS = 20
"""Thresholds that are tried unless others are given: 0, 1/20, ..., 1."""


@dataclass(frozen=True)
class ThresholdRow:
    """What a choice of thresholds does on a set of examples."""

    thresholds: tuple[float, ...]
    """Of the local exit, and of the edge where there is one."""
    accuracy: float
    """Share of all examples that the exits which they take get right, in [0, 1]."""
    shares: tuple[float, ...]
    """Of all examples, how many leave at the local exit, at the edge where there is one, and at the cloud."""

    @property
    def local_share(self) -> float:
        return self.shares[0]


def threshold_table(
    exits: Mapping[str, Tensor], labels: Tensor, thresholds: Sequence[float] | None = None
) -> tuple[ThresholdRow, ...]:
    """Accuracy and shares for every threshold, and with an edge for every pair of them.

    exits: scores [examples, classes] of "local", "edge" where there is one, and "cloud", as `PackedDDNN.exits` gives
    them; others are not looked at. labels: int64 [examples]. Give examples that neither trained nor will judge.
    Raises: ValueError for thresholds outside [0, 1], and for scores and labels that do not fit.
    """
    early = (LOCAL, EDGE) if EDGE in exits else (LOCAL,)
    for name in (*early, CLOUD):
        if name not in exits or len(exits[name]) != len(labels) or not len(labels):
            raise ValueError(f"threshold_table: needs scores of exit {name!r}, as many as labels; at least one")
    tried = [step / STEPS for step in range(STEPS + 1)] if thresholds is None else list(thresholds)
    unsure = [normalized_entropy(exits[name]) for name in early]
    right = [exits[name].argmax(1) == labels for name in (*early, CLOUD)]
    rows = []
    for choice in itertools.product(tried, repeat=len(early)):
        wanted = check_thresholds(choice, early)
        left = torch.ones(len(labels), dtype=torch.bool)
        leaving = []
        for entropy, threshold in zip(unsure, wanted, strict=True):
            leaving.append(left & (entropy <= threshold))
            left = left & ~leaving[-1]
        leaving.append(left)
        hits = sum(int((gone & good).sum()) for gone, good in zip(leaving, right, strict=True))
        shares = tuple(int(gone.sum()) / len(labels) for gone in leaving)
        rows.append(ThresholdRow(wanted, hits / len(labels), shares))
    return tuple(rows)


def choose_thresholds(rows: Sequence[ThresholdRow], loses: float = 0.0) -> ThresholdRow:
    """The row whose examples leave earliest, among those at most `loses` (a share) below the best accuracy.

    Earliest: the smallest share of the cloud, then the largest of the local exit.
    Raises: ValueError without a row, and for a share outside [0, 1].
    """
    if not rows or not 0.0 <= loses <= 1.0:
        raise ValueError(f"choose_thresholds: needs a row, and a share in [0, 1] that may be lost; got {loses}")
    least = max(row.accuracy for row in rows) - loses
    good = [row for row in rows if row.accuracy >= least]
    return min(good, key=lambda row: (row.shares[-1], -row.local_share, row.thresholds))
