# SPDX-License-Identifier: Apache-2.0
"""Which windows a pool looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PoolRule:
    """Windows over images, as torch's pools have them."""

    average: bool
    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    count_padding: bool = True
    """Means divide by the window's size with its padding."""
