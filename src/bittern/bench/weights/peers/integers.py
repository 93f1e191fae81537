# SPDX-License-Identifier: Apache-2.0
"""Weights as engines of other formats take them: integers about 0, with a scale for each group of columns."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from bittern.nn.group_codes import round_to_groups

GROUP = 64


class Integers(NamedTuple):
    """W = scale * (codes - 2^(bits - 1)), in whole groups: columns that fill up the last one stand for 0."""

    codes: Tensor
    """uint8 [rows, groups, group]."""
    scale: Tensor
    """float32 [rows, groups]."""


def integers(linear: nn.Linear, bits: int, group: int) -> Integers:
    codes, scale, _ = round_to_groups(linear.weight.detach(), bits, group, zero_point=False)
    filled = F.pad(codes, (0, -codes.shape[1] % group), value=2 ** (bits - 1))
    return Integers(filled.view(len(codes), -1, group), scale)


def rolled(weight: Integers, rows: int) -> Integers:
    """Shifted by so many rows, so that no two copies of a weight are equal: an engine may hold equal ones once."""
    return Integers(weight.codes.roll(rows, 0), weight.scale.roll(rows, 0))


def nibbles(codes: Tensor) -> Tensor:
    """uint8 [..., columns] below 16 -> [..., columns / 2], the first of two in the lower four bits."""
    return codes[..., 0::2] | codes[..., 1::2] << 4
