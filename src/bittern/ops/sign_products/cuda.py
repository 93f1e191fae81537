# SPDX-License-Identifier: Apache-2.0
"""`sign_products` on CUDA: a product of floats, whose sums are whole numbers that float32 holds."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.sign_products.reference import signs


def sign_products_cuda(a: Tensor, b: Tensor) -> Tensor:
    y: Tensor = signs(a, torch.float32) @ signs(b, torch.float32).transpose(-2, -1)
    return y.contiguous()
