# SPDX-License-Identifier: Apache-2.0
"""Double quantization: the absmax of 4-bit blocks in 8 bits themselves, 0.37 bits per weight less (QLoRA).

absmax is positive, so its mean is taken away first; what is left is quantized block-wise with the signed dynamic tree.
Reference: arXiv:2305.14314, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bittern.ops import codebooks
from bittern.ops.dequantize_blockwise import dequantize_blockwise
from bittern.ops.quantize_blockwise import quantize_blockwise

NESTED_BLOCK = 256
"""Absmax that share a scale, as in the paper."""


class NestedAbsmax(NamedTuple):
    """absmax = value(codes) * scales + offset."""

    codes: Tensor
    """uint8 [blocks]."""
    scales: Tensor
    """float32 [ceil(blocks / 256)]."""
    offset: Tensor
    """float32 []."""


def quantize_absmax(absmax: Tensor, block_size: int = NESTED_BLOCK) -> NestedAbsmax:
    """absmax: float32 [blocks] -> its codes, their scales and the mean. Errors: those of `quantize_blockwise`."""
    offset = absmax.mean() if absmax.numel() else absmax.new_zeros(())
    offset = torch.where(offset.isfinite(), offset, absmax.double().mean().float())  # a sum beyond float32
    codes, scales = quantize_blockwise(absmax - offset, codebooks.dynamic_tree().to(absmax.device), block_size)
    return NestedAbsmax(codes, scales, offset)


def dequantize_absmax(nested: NestedAbsmax, block_size: int = NESTED_BLOCK) -> Tensor:
    """float32 [blocks]; a scale that rounding brought below 0 is 0, as no block has a negative absmax."""
    table = codebooks.dynamic_tree().to(nested.codes.device)
    values = dequantize_blockwise(nested.codes, nested.scales, table, block_size)
    return torch.clamp_min(values + nested.offset, 0.0)
