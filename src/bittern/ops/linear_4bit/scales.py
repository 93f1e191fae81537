# SPDX-License-Identifier: Apache-2.0
"""The scales of a 4-bit weight's blocks in one byte each: what they mean, and where native code finds them."""

from __future__ import annotations

from array import array
from functools import cache

import torch
from torch import Tensor

from bittern.ops import codebooks
from bittern.ops.e8m0 import powers
from bittern.ops.nested import NESTED_BLOCK


def decoded_absmax(absmax: Tensor, scales: Tensor | None, offset: Tensor | None) -> Tensor:
    """float32 [blocks]: absmax itself, or what its bytes mean, as `dequantize_absmax` and `powers` say."""
    if absmax.dtype == torch.float32:
        return absmax
    if scales is None or offset is None:
        return powers(absmax)
    table = codebooks.dynamic_tree().to(absmax.device)
    values = table[absmax.int()] * scales.repeat_interleave(NESTED_BLOCK)[: len(absmax)]
    return torch.clamp_min(values + offset, 0.0)


@cache
def _tree() -> array[float]:
    """The numbers of nested codes, not in a tensor: a trace must not see one that lives longer than it."""
    return array("f", codebooks.tree_entries(True, 8, False))


def scale_pointers(absmax: Tensor, scales: Tensor | None, offset: Tensor | None) -> tuple[int, int, int, int, int]:
    """absmax as numbers; or its codes, and of nested ones the table, the scales and the offset. 0: there is none."""
    if absmax.dtype == torch.float32:
        return absmax.data_ptr(), 0, 0, 0, 0
    if scales is None or offset is None:
        return 0, absmax.data_ptr(), 0, 0, 0
    return 0, absmax.data_ptr(), _tree().buffer_info()[0], scales.data_ptr(), offset.data_ptr()


def contiguous(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()
