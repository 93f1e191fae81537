# SPDX-License-Identifier: Apache-2.0
"""The meaning of `integer_dequantize` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def integer_dequantize_reference(x: Tensor, scale: float, zero: int) -> Tensor:
    """float32 of the same shape."""
    return (x.to(torch.float32) - zero) * scale
