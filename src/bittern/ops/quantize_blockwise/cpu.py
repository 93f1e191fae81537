# SPDX-License-Identifier: Apache-2.0
"""`quantize_blockwise` on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads


def quantize_flat(
    isa: Isa,
    x: Tensor,
    code: Tensor,
    block_size: int,
    keep_nonzero: bool,
    seed: int | None,
    codes: Tensor,
    nibbles: bool = False,
) -> Tensor:
    """Writes the codes of contiguous x, two per byte if `nibbles`, and returns absmax."""
    n = x.numel()
    absmax = torch.empty(-(-n // block_size), dtype=torch.float32)
    code = code.contiguous()
    _native.quantize_blockwise(
        isa,
        threads(),
        x.data_ptr(),
        DTYPE_CODES[x.dtype],
        n,
        block_size,
        code.data_ptr(),
        len(code),
        nibbles,
        keep_nonzero,
        seed is not None,
        0 if seed is None else seed,
        codes.data_ptr(),
        absmax.data_ptr(),
    )
    return absmax


def quantize_blockwise_cpu(
    isa: Isa, x: Tensor, code: Tensor, block_size: int = 256, *, keep_nonzero: bool = False, seed: int | None = None
) -> tuple[Tensor, Tensor]:
    x = x.contiguous()
    codes = torch.empty(x.shape, dtype=torch.uint8)
    return codes, quantize_flat(isa, x, code, block_size, keep_nonzero, seed, codes)
