# SPDX-License-Identifier: Apache-2.0
"""Where things lie in memory: the native record of a tensor, the codes and the scales of an optimizer state."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from bittern import _native
from bittern.ops import codebooks

WORD = {name: offset // 8 for name, offset, _ in _native.step_tensor_fields()}
"""Where each field of a `StepTensor` (kernel.h) begins, in words of 64 bits."""

WORDS = sum(size for _, _, size in _native.step_tensor_fields()) // 8
"""Length of a `StepTensor`."""

ABSMAX_LEAST = torch.finfo(torch.float32).tiny
"""A block whose largest magnitude is below the smallest normal float32 is stored as zeros: 1 / absmax overflows."""

STATE_BITS = (32, 8, 4)
BLOCK_SIZES = tuple(2**k for k in range(5, 13))


@cache
def state_table(signed: bool, bits: int) -> Tensor:
    """Code table of a state of 8 or 4 bits, float32 [2**bits]; not to be changed.

    Dynamic trees, but for squares in 4 bits: linear without zero (arXiv:2309.01507). In 8 bits a square above 0 never
    takes the code of 0.
    """
    if bits == 4 and not signed:
        return codebooks.linear(signed=False, bits=4, zero=False)
    return codebooks.dynamic_tree(signed=signed, bits=bits)


def code_count(numel: int, bits: int, row_length: int) -> int:
    """Bytes of codes for a tensor: one per element, or one per two elements of a row."""
    if bits == 8 or not numel:
        return numel
    return numel // row_length * -(-row_length // 2)


def block_count(numel: int, block_size: int, row_length: int) -> int:
    """Number of absmax of a tensor."""
    return numel // row_length * -(-row_length // block_size) if numel else 0
