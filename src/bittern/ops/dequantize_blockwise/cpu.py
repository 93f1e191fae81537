# SPDX-License-Identifier: Apache-2.0
"""`dequantize_blockwise` on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads
from bittern.ops.dequantize_blockwise.arguments import DequantizeArguments


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


def dequantize_blockwise_cpu(isa: Isa, a: DequantizeArguments) -> Tensor:
    out = torch.empty(a.codes.shape, dtype=a.dtype)
    dequantize_flat(isa, *a[:4], False, out)
    return out
