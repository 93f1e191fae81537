# SPDX-License-Identifier: Apache-2.0
"""`dequantize_blockwise` on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads


def dequantize_flat(
    isa: Isa, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, nibbles: bool, out: Tensor
) -> None:
    """Fills contiguous `out` from its codes, which lie two per byte if `nibbles`."""
    codes, absmax, code = codes.contiguous(), absmax.contiguous(), code.contiguous()
    _native.dequantize_blockwise(
        isa,
        threads(),
        codes.data_ptr(),
        absmax.data_ptr(),
        code.data_ptr(),
        len(code),
        out.numel(),
        block_size,
        nibbles,
        DTYPE_CODES[out.dtype],
        out.data_ptr(),
    )


def dequantize_blockwise_cpu(
    isa: Isa, codes: Tensor, absmax: Tensor, code: Tensor, block_size: int = 256, dtype: torch.dtype = torch.float32
) -> Tensor:
    out = torch.empty(codes.shape, dtype=dtype)
    dequantize_flat(isa, codes, absmax, code, block_size, False, out)
    return out
