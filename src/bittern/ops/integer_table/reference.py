# SPDX-License-Identifier: Apache-2.0
"""The meaning of `integer_table` in plain torch."""

from __future__ import annotations

from torch import Tensor

LEAST = -128


def integer_table_reference(x: Tensor, table: Tensor) -> Tensor:
    """table: int8 [256]."""
    return table[x.long() - LEAST]
