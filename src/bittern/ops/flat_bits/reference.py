# SPDX-License-Identifier: Apache-2.0
"""The meaning of `flat_bits`, `rows_of_bits` and `from_flat_bits` in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.ops._check import words_for
from bittern.ops.pack_signs.reference import pack_signs_reference
from bittern.ops.unpack_signs.reference import unpack_signs_reference


def flat_bits_reference(x: Tensor, low: float) -> Tensor | None:
    """The bits of x, or None where it holds another number than 1 and low."""
    flat = x.as_strided((x.numel(),), (1,))
    if not bool(((flat == 1.0) | (flat == low)).all()):
        return None
    if x.numel() == 0:
        return torch.empty(0, dtype=torch.int64)
    return pack_signs_reference(flat, torch.ones(x.numel()))


def rows_of_bits_reference(bits: Tensor, rows: int, columns: int) -> Tensor:
    """The bits row by row."""
    if rows == 0:
        return torch.empty((0, words_for(columns)), dtype=torch.int64)
    return pack_signs_reference(unpack_signs_reference(bits, rows * columns).view(rows, columns))


def from_flat_bits_reference(bits: Tensor, shape: Sequence[int], stride: Sequence[int], low: float) -> Tensor:
    """1 for a bit, low for none."""
    n = torch.Size(shape).numel()
    signs = unpack_signs_reference(bits, n) if n else torch.empty(0)
    return torch.where(signs > 0, 1.0, low).as_strided(tuple(shape), tuple(stride))
