# SPDX-License-Identifier: Apache-2.0
"""Which of several seeds is published."""

from __future__ import annotations

from collections.abc import Mapping

CHOSEN = (
    "the seed whose score on held-out training examples is the median; of two in the middle the lower; "
    "the test set had no say"
)


def median_seed(scores: Mapping[int, float]) -> int:
    """seed -> score on held-out examples. Of equal scores the lower seed comes first. Raises: ValueError for none."""
    if not scores:
        raise ValueError("median_seed: needs at least one seed; got none")
    order = sorted(scores, key=lambda seed: (scores[seed], seed))
    return order[(len(order) - 1) // 2]
