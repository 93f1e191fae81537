# SPDX-License-Identifier: Apache-2.0
"""The meaning of block-wise dequantization in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.dequantize_blockwise.arguments import DequantizeArguments


def dequantize_blockwise_reference(a: DequantizeArguments) -> Tensor:
    """code[codes] * absmax of the block, in float32, then rounded to `dtype`. A code beyond the table gives 0."""
    codes, absmax, code, block_size, dtype = a
    table = torch.cat([code, code.new_zeros(256 - len(code))])
    index = codes.reshape(-1)
    scale = absmax.repeat_interleave(block_size)[: index.numel()]
    return (table[index.int()] * scale).to(dtype).view(codes.shape)
