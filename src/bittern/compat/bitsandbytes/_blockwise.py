# SPDX-License-Identifier: Apache-2.0
"""Block-wise 8-bit codes: `quantize_blockwise` and `dequantize_blockwise`."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from bittern.compat.bitsandbytes._check import check_kind
from bittern.compat.bitsandbytes._quant_state import QuantState
from bittern.ops import codebooks
from bittern.ops import dequantize_blockwise as _dequantize_blockwise
from bittern.ops import quantize_blockwise as _quantize_blockwise
from bittern.ops.dequantize_blockwise.arguments import DequantizeArguments
from bittern.ops.dequantize_blockwise.reference import dequantize_blockwise_reference
from bittern.ops.quantize_blockwise.arguments import QuantizeArguments
from bittern.ops.quantize_blockwise.check import BLOCK_SIZES, FLOATS
from bittern.ops.quantize_blockwise.reference import quantize_blockwise_reference


@cache
def _dynamic(device: torch.device) -> Tensor:
    """One tensor per device, for the ops look at the entries of each table once."""
    return codebooks.dynamic_tree(signed=True, bits=8).to(device)


def check_floats(op: str, a: Tensor) -> None:
    check_kind(op, "A", a, *FLOATS)


def _check_block_size(op: str, blocksize: int, nested: bool) -> None:
    if blocksize <= 0:
        raise ValueError(f"{op}: blocksize must be positive; got {blocksize}")
    if nested and blocksize not in BLOCK_SIZES:
        raise ValueError(f"{op}: with nested=True blocksize must be a power of two from 32 to 4096; got {blocksize}")


def quantize_blockwise(
    A: Tensor,
    code: Tensor | None = None,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int = 4096,
    nested: bool = False,
) -> tuple[Tensor, QuantState]:
    """Nearest codes of `A`, one byte per element, and the `QuantState` that `dequantize_blockwise` needs.

    code: float32 table that does not decrease, at most 256 entries; None is the signed dynamic map. absmax, out: filled
    instead of new tensors. nested: absmax is quantized too, after its mean is taken away. blocksize: there are kernels
    for the powers of two from 32 to 4096; plain torch, many times slower, does any other.
    Errors: ValueError for another dtype, a blocksize below 1, or nested=True with one that has no kernel.
    """
    check_floats("quantize_blockwise", A)
    _check_block_size("quantize_blockwise", blocksize, nested)
    code = _dynamic(A.device) if code is None else code.float().to(A.device)
    if blocksize in BLOCK_SIZES:
        codes, scales = _quantize_blockwise(A, code, blocksize)
    else:
        codes, scales = quantize_blockwise_reference(QuantizeArguments(A, code, blocksize))
    state = QuantState(scales, code=code, blocksize=blocksize, dtype=A.dtype)
    if nested:
        state.nest(blocksize)
    if absmax is not None:
        state.absmax = absmax.copy_(state.absmax)
    return (codes if out is None else out.copy_(codes)), state


def dequantize_blockwise(
    A: Tensor,
    quant_state: QuantState | None = None,
    absmax: Tensor | None = None,
    code: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int = 4096,
    nested: bool = False,
) -> Tensor:
    """The values of `quantize_blockwise`, of quant_state's dtype; with `absmax` and no state they are float32.

    Errors: ValueError without quant_state and absmax, for codes that are not uint8, for nested=True (a nested state
    says so itself), for a blocksize below 1.
    """
    if nested:
        raise ValueError("dequantize_blockwise: nested is read from quant_state; pass the state and leave it out")
    if quant_state is None:
        if absmax is None:
            raise ValueError("dequantize_blockwise: needs quant_state or absmax; got neither")
        table = _dynamic(A.device) if code is None else code
        quant_state = QuantState(absmax, code=table, blocksize=blocksize, dtype=torch.float32)
    check_kind("dequantize_blockwise", "A", A, torch.uint8)
    _check_block_size("dequantize_blockwise", quant_state.blocksize, False)
    table = quant_state.table.to(A.device)
    scales = quant_state.scales().to(A.device)
    arguments = DequantizeArguments(A, scales, table, quant_state.blocksize, quant_state.dtype or torch.float32)
    if quant_state.blocksize in BLOCK_SIZES:
        values = _dequantize_blockwise(*arguments)
    else:
        values = dequantize_blockwise_reference(arguments)
    return values if out is None else out.copy_(values)
