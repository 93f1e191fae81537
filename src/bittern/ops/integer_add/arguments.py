# SPDX-License-Identifier: Apache-2.0
"""What `integer_add` is told beside its tensors."""

from __future__ import annotations

from typing import NamedTuple

from bittern.ops.fixed_point import Factor


class IntegerSum(NamedTuple):
    """Zero points, factors and limits."""

    zero_a: int
    zero_b: int
    out_zero: int
    a: Factor
    b: Factor
    own: Factor
    low: int = -128
    high: int = 127
