# SPDX-License-Identifier: Apache-2.0
"""What may happen to a number of an image."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from torch import Tensor


class MapOperation(IntEnum):
    """Of the number y so far, by the number that native code knows; p, q, r, s are parameters of its channel."""

    AFFINE = 0
    """fma(y, p, q)"""
    RELU = 1
    """max(0, y)"""
    CLAMP = 2
    """min(max(y, p), q)"""
    PRELU = 3
    """y > 0 ? y : p * y"""
    RPRELU = 4
    """With t = y - p: (t > 0 ? t : q * t) + r"""
    DPRELU = 5
    """With t = y - p: (t >= 0 ? q : r) * t - s"""
    HARD_SIGMOID = 6
    """min(max(y + 3, 0), 6) / 6"""
    ADD_RESIDUAL = 7
    ADD_MAPPED = 8
    """y + fma(residual, p, q)"""
    MULTIPLY_RESIDUAL = 9
    ADD_FACTOR = 10
    MULTIPLY_FACTOR = 11


class MapStep(NamedTuple):
    """One operation with its parameters."""

    operation: MapOperation
    rows: Tensor | None = None
    """float32 [n, channels], where it has any."""
