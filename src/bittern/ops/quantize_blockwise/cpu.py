# SPDX-License-Identifier: Apache-2.0
"""`quantize_blockwise` on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads
from bittern.ops.quantize_blockwise.arguments import QuantizeArguments


def quantize_flat(isa: Isa, a: QuantizeArguments, codes: Tensor, nibbles: bool) -> Tensor:
    """Writes the codes, two per byte if `nibbles`, and returns absmax."""
    x, code = a.x.contiguous(), a.code.contiguous()
    absmax = torch.empty(a.blocks, dtype=torch.float32)
    _native.quantize_blockwise(
        isa,
        threads(),
        x.data_ptr(),
        DTYPE_CODES[x.dtype],
        x.numel(),
        a.block_size,
        code.data_ptr(),
        len(code),
        nibbles,
        a.keep_nonzero,
        a.seed is not None,
        0 if a.seed is None else a.seed,
        codes.data_ptr(),
        absmax.data_ptr(),
    )
    return absmax


def quantize_blockwise_cpu(isa: Isa, a: QuantizeArguments) -> tuple[Tensor, Tensor]:
    codes = torch.empty(a.x.shape, dtype=torch.uint8)
    return codes, quantize_flat(isa, a, codes, nibbles=False)
