# SPDX-License-Identifier: Apache-2.0
"""The meaning of a product with a 4-bit weight in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.linear_4bit.arguments import BackwardArguments, Linear4bitArguments
from bittern.ops.linear_4bit.scales import decoded_absmax


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
    absmax = decoded_absmax(a.absmax, a.absmax_scales, a.absmax_offset)
    y = a.x.float() @ decoded_weight(a.packed, absmax, *a[3:5], shape, a.x.dtype).t()
    return (y if a.bias is None else y + a.bias.float()).to(a.x.dtype)


def linear_4bit_backward_reference(a: BackwardArguments) -> Tensor:
    """grad W, summed in float32, with W [out_features, in_features] decoded and rounded to grad's dtype."""
    shape = (a.grad.shape[-1], a.in_features)
    absmax = decoded_absmax(a.absmax, a.absmax_scales, a.absmax_offset)
    weight = decoded_weight(a.packed, absmax, *a[3:5], shape, a.grad.dtype)
    return (a.grad.float() @ weight).to(a.grad.dtype)
