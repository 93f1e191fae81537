# SPDX-License-Identifier: Apache-2.0
"""The meaning of a product with a 4-bit weight in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.linear_4bit.arguments import BackwardArguments, Linear4bitArguments


def decoded_weight(
    packed: Tensor, absmax: Tensor, code: Tensor, block_size: int, shape: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """float32 [out, in]: code[c] * absmax of its block, rounded to `dtype`."""
    flat = packed.reshape(-1)
    codes = torch.stack([flat >> 4, flat & 15], -1).reshape(-1)[: shape[0] * shape[1]]
    values = code[codes.long()] * absmax.repeat_interleave(block_size)[: len(codes)]
    return values.to(dtype).float().view(shape)


def linear_4bit_reference(a: Linear4bitArguments) -> Tensor:
    """x W^T + bias, summed in float32, with W [out_features, in_features] decoded and rounded to x's dtype."""
    shape = (a.out_features, a.x.shape[-1])
    y = a.x.float() @ decoded_weight(*a[1:5], shape, a.x.dtype).t()
    return (y if a.bias is None else y + a.bias.float()).to(a.x.dtype)


def linear_4bit_backward_reference(a: BackwardArguments) -> Tensor:
    """grad W, summed in float32, with W [out_features, in_features] decoded and rounded to grad's dtype."""
    shape = (a.grad.shape[-1], a.in_features)
    weight = decoded_weight(*a[1:5], shape, a.grad.dtype)
    return (a.grad.float() @ weight).to(a.grad.dtype)
