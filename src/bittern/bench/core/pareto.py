# SPDX-License-Identifier: Apache-2.0
"""Which of several is better where less of every figure is."""

from __future__ import annotations

from collections.abc import Sequence


def beats(left: Sequence[float], right: Sequence[float]) -> bool:
    """Pareto: at least as good in every figure, and better in one. Raises: ValueError for another number of figures."""
    return tuple(left) != tuple(right) and all(a <= b for a, b in zip(left, right, strict=True))
