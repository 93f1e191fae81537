# SPDX-License-Identifier: Apache-2.0
"""What `integer_mean` is told beside its images."""

from __future__ import annotations

from typing import NamedTuple

from bittern.ops.fixed_point import Factor


class IntegerMeanRule(NamedTuple):
    """Zero points, the factor and limits."""

    zero: int
    out_zero: int
    factor: Factor
    """Of the scales, divided by how many numbers a mean is of."""
    low: int = -128
    high: int = 127
