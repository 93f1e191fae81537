# SPDX-License-Identifier: Apache-2.0
"""Squares of 8 bits, rounded at random to one of the two entries of their tree around them.

Two entries are 0.7 to 7 % apart in the uppermost decade and up to 2.4 times at the lower end, while a square shrinks by
0.1 % a step: to the nearest entry it never does. With U uniform in [0, 1), y = v / absmax between the entries a and b
becomes b where U (b - a) < y - a, so that the mean is y. A y above 0 is at least the smallest entry above 0, 3.25e-7,
and 0 stays 0: no parameter without gradient moves, and none with one divides by 0. The block's largest is exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_FROM = 1.0 - 2.0**-22
"""A y from here on is the largest of its block: absmax times its reciprocal, which for an absmax above 2^126 is a
subnormal of as few as 22 bits."""


def neighbour(table: Tensor, y: Tensor, chance: Tensor) -> Tensor:
    """Codes of the entries of `table` below or above y, so that the mean is y where it lies between two."""
    below = (torch.bucketize(y, table, right=True) - 1).clamp(0, len(table) - 2)
    low, high = table[below], table[below + 1]
    return below + (chance * (high - low) < y - low)


def encode_random_squares(table: Tensor, y: Tensor, chance: Tensor) -> Tensor:
    """Codes int64 of y, float32 in [0, 1 + 2^-22]; chance: U; table: the unsigned tree."""
    codes = torch.where(y < LARGEST_FROM, neighbour(table, y, chance), len(table) - 1)
    return torch.where((y > 0) & (codes == 0), 1, codes)
