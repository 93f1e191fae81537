# SPDX-License-Identifier: Apache-2.0
"""`unpack_signs` on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads


def unpack_signs_cpu(isa: Isa, words: Tensor, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    words = words.contiguous()
    out = torch.empty((*words.shape[:-1], length), dtype=dtype, device="cpu")
    rows = words.numel() // words.shape[-1]
    _native.unpack_signs(isa, threads(), words.data_ptr(), rows, length, DTYPE_CODES[dtype], out.data_ptr())
    return out
