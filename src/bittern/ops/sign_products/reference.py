# SPDX-License-Identifier: Apache-2.0
"""The meaning of `sign_products` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def sign_products_reference(a: Tensor, b: Tensor) -> Tensor:
    """y[..., i, j] = sum_k sign(a[..., i, k]) * sign(b[..., j, k])."""
    left, right = signs(a, torch.float64), signs(b, torch.float64)
    return (left @ right.transpose(-2, -1)).float()


def signs(x: Tensor, dtype: torch.dtype) -> Tensor:
    """+1 where x >= 0, else -1."""
    return (x >= 0).to(dtype) * 2.0 - 1.0
