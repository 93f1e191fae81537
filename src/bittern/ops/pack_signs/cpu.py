"""`pack_signs` on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES, words_for
from bittern.ops._isa import Isa, threads


def pack_signs_cpu(isa: Isa, x: Tensor, threshold: Tensor | None = None) -> Tensor:
    x = x.contiguous()
    columns = x.shape[-1]
    out = torch.empty((*x.shape[:-1], words_for(columns)), dtype=torch.int64)
    limits = None if threshold is None else threshold.contiguous()
    _native.pack_signs(
        isa,
        threads(),
        x.data_ptr(),
        DTYPE_CODES[x.dtype],
        x.numel() // columns,
        columns,
        0 if limits is None else limits.data_ptr(),
        out.data_ptr(),
    )
    return out
