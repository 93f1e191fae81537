# SPDX-License-Identifier: Apache-2.0
"""The meaning of `clipped_sign`, `clipped_levels` and `masked_gradient` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.sign.reference import sign_reference

BITS = 8
"""Elements per byte of a mask."""


def mask_bytes(x: Tensor) -> int:
    """How many bytes the mask of x has."""
    return -(-x.numel() // BITS)


def clipped_sign_reference(x: Tensor, limit: float = 1.0, strict: bool = False) -> tuple[Tensor, Tensor]:
    """sign(x), and which |x| <= limit (strict: <)."""
    most = torch.tensor(limit, dtype=x.dtype, device=x.device)
    inside = x.abs() < most if strict else x.abs() <= most
    return sign_reference(x).contiguous(), pack_mask(inside)


def clipped_levels_reference(x: Tensor, bits: int = 1) -> tuple[Tensor, Tensor]:
    """The level of x clipped to [0, 1], and which 0 <= x <= 1."""
    level = torch.round(x.nan_to_num(nan=0.0).clamp(0.0, 1.0) * (2**bits - 1))
    return (level + 0.0).contiguous(), pack_mask((x >= 0.0) & (x <= 1.0))  # + 0 makes +0 of -0


def masked_gradient_reference(grad: Tensor, mask: Tensor, factor: float = 1.0) -> Tensor:
    """grad times `factor` where the mask is set, times 0 elsewhere."""
    inside = unpack_mask(mask, grad.numel()).view(grad.shape)
    return (grad * (inside.to(grad.dtype) * factor)).contiguous()


def pack_mask(inside: Tensor) -> Tensor:
    """bool, any shape -> uint8 [ceil(n / 8)]."""
    flat = inside.reshape(-1).to(torch.uint8)
    flat = torch.nn.functional.pad(flat, (0, -flat.numel() % BITS)).view(-1, BITS)
    powers = 2 ** torch.arange(BITS, dtype=torch.uint8, device=flat.device)
    return (flat * powers).sum(1, dtype=torch.uint8)


def unpack_mask(mask: Tensor, n: int) -> Tensor:
    """uint8 [ceil(n / 8)] -> bool [n]."""
    powers = 2 ** torch.arange(BITS, dtype=torch.uint8, device=mask.device)
    return ((mask[:, None] & powers) != 0).view(-1)[:n]
