# SPDX-License-Identifier: Apache-2.0
"""The meaning of `integer_quantize` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.fixed_point import rounded_away

LEAST, MOST = -128, 127


def integer_quantize_reference(x: Tensor, scale: float, zero: int) -> Tensor:
    """int8 of the same shape; NaN becomes 0."""
    y = (rounded_away(x / scale) + zero).clamp(LEAST, MOST)
    return torch.where(y.isnan(), 0.0, y).to(torch.int8)
