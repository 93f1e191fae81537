# SPDX-License-Identifier: Apache-2.0
"""The meaning of `pack_levels` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.pack_signs.reference import pack_signs_reference


def pack_levels_reference(x: Tensor, planes: int) -> Tensor:
    """Bit j of round_half_even(clip(x, 0, 1) * (2^planes - 1)), 0 for NaN, in plane j, packed as signs are."""
    top = float(2**planes - 1)
    levels = torch.round(x.nan_to_num(nan=0.0).clamp(0, 1) * top).to(torch.int32)
    return torch.stack([pack_signs_reference((levels >> j & 1) - 1) for j in range(planes)])
