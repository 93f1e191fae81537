# SPDX-License-Identifier: Apache-2.0
"""The meaning of block-wise quantization in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops._random import random_unit
from bittern.ops.codebooks import boundaries
from bittern.ops.quantize_blockwise.arguments import QuantizeArguments

SMALLEST_ABSMAX = torch.finfo(torch.float32).smallest_normal
"""A block whose absmax is smaller counts as zero, because 1 / absmax would overflow."""


def _nearest(y: Tensor, code: Tensor) -> Tensor:
    return torch.searchsorted(boundaries(code), y, right=True)


def _stochastic(y: Tensor, code: Tensor, seed: int) -> Tensor:
    """Of the neighbours c_i <= y < c_(i+1) the upper one with probability (y - c_i) / (c_(i+1) - c_i)."""
    last = len(code) - 1
    below = (torch.searchsorted(code, y, right=True) - 1).clamp(0, last)
    low, high = code[below], code[(below + 1).clamp(max=last)]
    u = random_unit(seed, torch.arange(y.numel(), device=y.device)).view(y.shape)
    return torch.where(u * (high - low) < y - low, (below + 1).clamp(max=last), below)


def quantize_blockwise_reference(a: QuantizeArguments) -> tuple[Tensor, Tensor]:
    """y = x * (1 / absmax) per block, then the index of the nearest entry, or of one of two neighbours at random."""
    x, code, block_size, keep_nonzero, seed = a
    n = x.numel()
    flat = x.detach().reshape(-1).float()
    blocks = F.pad(flat, (0, -n % block_size)).view(-1, block_size)
    finite = torch.where(blocks.isfinite(), blocks.abs(), 0.0)
    absmax = finite.amax(1) if n else finite.new_empty(0)
    absmax = torch.where(absmax < SMALLEST_ABSMAX, 0.0, absmax)
    inverse = torch.where(absmax > 0, 1 / absmax, 0.0)[:, None]
    y = torch.where((inverse == 0) | blocks.isnan(), 0.0, blocks * inverse).reshape(-1)[:n]
    index = _nearest(y, code) if seed is None else _stochastic(y, code, seed)
    if keep_nonzero:
        index = torch.where((y > 0) & (index == 0), 1, index)
    return index.to(torch.uint8).view(x.shape), absmax
