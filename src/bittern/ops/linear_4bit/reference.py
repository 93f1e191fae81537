# SPDX-License-Identifier: Apache-2.0
"""The meaning of a product with a 4-bit weight in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def decoded_weight(
    packed: Tensor, absmax: Tensor, code: Tensor, block_size: int, shape: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """float32 [out, in]: code[c] * absmax of its block, rounded to `dtype`."""
    flat = packed.reshape(-1)
    codes = torch.stack([flat >> 4, flat & 15], -1).reshape(-1)[: shape[0] * shape[1]]
    values = code[codes.long()] * absmax.repeat_interleave(block_size)[: len(codes)]
    return values.to(dtype).float().view(shape)


def linear_4bit_reference(
    x: Tensor,
    packed: Tensor,
    absmax: Tensor,
    code: Tensor,
    block_size: int,
    out_features: int,
    bias: Tensor | None = None,
) -> Tensor:
    """x W^T + bias, summed in float32, with W [out_features, in_features] decoded and rounded to x's dtype."""
    shape = (out_features, x.shape[-1])
    y = x.float() @ decoded_weight(packed, absmax, code, block_size, shape, x.dtype).t()
    return (y if bias is None else y + bias.float()).to(x.dtype)


def linear_4bit_backward_reference(
    grad: Tensor, packed: Tensor, absmax: Tensor, code: Tensor, block_size: int, in_features: int
) -> Tensor:
    """grad W, summed in float32, with W [out_features, in_features] decoded and rounded to grad's dtype."""
    shape = (grad.shape[-1], in_features)
    weight = decoded_weight(packed, absmax, code, block_size, shape, grad.dtype)
    return (grad.float() @ weight).to(grad.dtype)
