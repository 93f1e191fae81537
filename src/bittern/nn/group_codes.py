# SPDX-License-Identifier: Apache-2.0
"""From a weight in numbers to integers in groups, by rounding to the nearest.

With a scale s and a zero point z per group, W' = s (c - z), c = 0 ... 2^b - 1.

Symmetric, as GGUF's Q4_0: z = 2^(b - 1), so that the numbers c - z are -2^(b - 1) ... 2^(b - 1) - 1, and

    s = (the number farthest from 0) / -2^(b - 1),

negative where that number is positive. So it takes the end that has one number more, and all 2^b are used. The other
side is cut off at 2^(b - 1) - 1: |W - W'| <= |s| / 2 but for numbers beyond that by more than 1/2, where it is <= |s|.
Mean squared error of normal numbers in groups of 64, times 1000, beside absmax / (2^(b - 1) - 1), which cuts nothing
off, and GPTQ's absmax / (2^(b - 1) - 1/2): 4 bits 9.0, 11.6, 10.6; 3 bits 37, 63, 48; 2 bits 155, 515, 261.
With zero points, as GPTQ and AWQ: s = (max(W, 0) - min(W, 0)) / (2^b - 1), z = round(-min(W, 0) / s), and
|W - W'| <= s / 2 everywhere; 8.3, 38 and 208 by the same measure.
A scale of 16 bits is rounded away from 0, so that nothing more is cut off, before the codes are chosen. A group whose
scale would be below 2^-126 counts as zeros.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class GroupCodes(NamedTuple):
    """A weight [rows, columns] in codes."""

    codes: Tensor
    """uint8 [rows, columns]."""
    scale: Tensor
    """[rows, groups], of the type asked for."""
    zero: Tensor | None
    """uint8 [rows, groups]; None: 2^(bits - 1)."""


def round_to_groups(
    weight: Tensor, bits: int, group: int, *, zero_point: bool, scale_dtype: torch.dtype = torch.float32
) -> GroupCodes:
    """The nearest codes of `weight`, float32 [rows, columns]; group: columns that share a scale.

    Raises: ValueError for a scale that `scale_dtype` cannot hold.
    """
    rows, columns = weight.shape
    groups = F.pad(weight, (0, -columns % group)).view(rows, -1, group)
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
    levels, half = 2**bits - 1, 2 ** (bits - 1)
    if zero_point:
        scale = high / levels - low / levels
    else:
        scale = torch.where(high > -low, high, low) / -half
    scale = torch.where(scale.abs() < torch.finfo(torch.float32).tiny, 0.0, scale)
    stored = _rounded_away(scale, scale_dtype)
    _check_range(stored, levels if zero_point else half)
    step = stored.float()
    divisor = torch.where(step == 0, 1.0, step)
    zero = (-low / divisor).round().clamp(0, levels) if zero_point else torch.full_like(step, half)
    zero = torch.where(step == 0, 0.0, zero) if zero_point else zero
    numbers = torch.where(step.unsqueeze(-1) == 0, 0.0, groups / divisor.unsqueeze(-1)).round()
    codes = (numbers + zero.unsqueeze(-1)).clamp(0, levels).to(torch.uint8).view(rows, -1)[:, :columns]
    return GroupCodes(codes.contiguous(), stored, zero.to(torch.uint8) if zero_point else None)


def _rounded_away(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """scale in `dtype`, not smaller in magnitude."""
    if dtype == scale.dtype:
        return scale
    rounded = scale.to(dtype)
    smaller = rounded.float().abs() < scale.abs()
    return (rounded.view(torch.int16) + smaller).view(dtype)  # the next float away from 0


def _check_range(scale: Tensor, most: int) -> None:
    if not scale.is_meta and not bool((scale.float() * most).isfinite().all()):
        raise ValueError(
            f"a group's scale must fit {str(scale.dtype).removeprefix('torch.')}, with the weights that it stands for; "
            f"got weights up to {float(scale.float().abs().max()) * most:.3g}; scale the weight down"
            + (", or take scale_dtype=torch.float32" if scale.dtype != torch.float32 else "")
        )
