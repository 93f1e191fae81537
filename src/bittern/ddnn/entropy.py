# SPDX-License-Identifier: Apache-2.0
"""When an exit is sure enough: the normalized entropy of its class scores (DDNN, ICDCS 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def normalized_entropy(scores: Tensor) -> Tensor:
    """How unsure class scores are: 0 where one class has all probability, 1 where all classes have the same.

    scores: real numbers [batch, classes] before a softmax. Result: float64 [batch].
    Formula: p = softmax(scores), eta = -sum_i p_i ln p_i / ln C; 0 ln 0 = 0. It is computed in float64 and kept within
    [0, 1], which rounding might leave. A score that is no number gives one that is none, which is below no threshold.
    Differences: the authors' code adds 1e-9 within the logarithm and does not divide by ln C.
    Raises: ValueError for scores of fewer than two classes or of another shape.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"normalized_entropy: needs scores [batch, classes] of 2 or more; got {list(scores.shape)}")
    shares = torch.softmax(scores.to(torch.float64), 1)
    entropy: Tensor = torch.special.entr(shares).sum(1) / math.log(scores.shape[1])
    return entropy.clamp(0.0, 1.0)


def check_thresholds(thresholds: Sequence[float], exits: Sequence[str]) -> tuple[float, ...]:
    """One threshold of normalized entropy for each early exit. Raises: ValueError."""
    if len(thresholds) != len(exits):
        raise ValueError(f"ddnn: needs one threshold for each early exit, {' and '.join(exits)}; got {len(thresholds)}")
    for name, threshold in zip(exits, thresholds, strict=True):
        if not 0.0 <= threshold <= 1.0:
            raise ValueError(
                f"ddnn: the threshold of exit {name!r} is a normalized entropy and must lie in [0, 1]; got {threshold}"
            )
    return tuple(float(threshold) for threshold in thresholds)
