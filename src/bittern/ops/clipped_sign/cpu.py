# SPDX-License-Identifier: Apache-2.0
"""`clipped_sign`, `clipped_levels` and `masked_gradient` on the CPU: float32 by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, threads
from bittern.ops.clipped_sign.reference import (
    clipped_levels_reference,
    clipped_sign_reference,
    mask_bytes,
    masked_gradient_reference,
)


def clipped_sign_cpu(isa: Isa, x: Tensor, limit: float = 1.0, strict: bool = False) -> tuple[Tensor, Tensor]:
    if x.dtype != torch.float32:
        return clipped_sign_reference(x, limit, strict)
    x = x.contiguous()
    out, mask = torch.empty_like(x), torch.empty(mask_bytes(x), dtype=torch.uint8)
    _native.clipped_sign(isa, threads(), x.data_ptr(), x.numel(), limit, strict, out.data_ptr(), mask.data_ptr())
    return out, mask


def clipped_levels_cpu(isa: Isa, x: Tensor, bits: int = 1) -> tuple[Tensor, Tensor]:
    if x.dtype != torch.float32:
        return clipped_levels_reference(x, bits)
    x = x.contiguous()
    out, mask = torch.empty_like(x), torch.empty(mask_bytes(x), dtype=torch.uint8)
    _native.clipped_levels(isa, threads(), x.data_ptr(), x.numel(), bits, out.data_ptr(), mask.data_ptr())
    return out, mask


def masked_gradient_cpu(isa: Isa, grad: Tensor, mask: Tensor, factor: float = 1.0) -> Tensor:
    if grad.dtype != torch.float32:
        return masked_gradient_reference(grad, mask, factor)
    grad, mask = grad.contiguous(), mask.contiguous()
    out = torch.empty_like(grad)
    _native.masked_gradient(isa, threads(), grad.data_ptr(), mask.data_ptr(), grad.numel(), factor, out.data_ptr())
    return out
