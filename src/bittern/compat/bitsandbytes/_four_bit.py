# SPDX-License-Identifier: Apache-2.0
"""4-bit codes, two per byte: `quantize_4bit`, `dequantize_4bit`, their NF4 and FP4 forms, and products with them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from bittern.compat.bitsandbytes._blockwise import check_floats
from bittern.compat.bitsandbytes._maps import get_4bit_type
from bittern.compat.bitsandbytes._quant_state import QuantState
from bittern.ops import codebooks, linear_4bit
from bittern.ops import dequantize_4bit as _dequantize_4bit
from bittern.ops import quantize_4bit as _quantize_4bit
from bittern.ops.quantize_blockwise.check import BLOCK_SIZES, FLOATS

NESTED_BLOCK = 256
"""Block size of the absmax of 4-bit weights when they are quantized themselves (QLoRA, arXiv:2305.14314)."""


@cache
def _sorted_table(quant_type: str, device: torch.device) -> Tensor:
    """One tensor per device, for the ops look at the entries of each table once."""
    return (codebooks.nf4() if quant_type == "nf4" else codebooks.fp4()).to(device)


@cache
def _fp4_bytes(to_stored: bool, device: torch.device) -> Tensor:
    """Table over bytes that renames both nibbles between the sorted order of FP4 and the stored bit patterns."""
    pattern = torch.tensor(codebooks.FP4_PATTERN)
    rename = pattern.argsort() if to_stored else pattern
    byte = torch.arange(256)
    return (rename[byte >> 4] << 4 | rename[byte & 15]).to(device, torch.uint8)


def _renamed(packed: Tensor, quant_type: str, to_stored: bool) -> Tensor:
    if quant_type == "nf4":
        return packed
    return _fp4_bytes(to_stored, packed.device)[packed.long()]


def check_4bit(op: str, blocksize: int, quant_type: str | None) -> None:
    if blocksize not in BLOCK_SIZES:
        raise ValueError(f"{op}: blocksize must be a power of two from 32 to 4096; got {blocksize}")
    if quant_type not in ("nf4", "fp4"):
        raise ValueError(f"{op}: quant_type must be 'nf4' or 'fp4'; got {quant_type!r}")


def quantize_4bit(
    A: Tensor,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int | None = None,
    compress_statistics: bool = False,
    quant_type: str = "fp4",
    quant_storage: torch.dtype = torch.uint8,
) -> tuple[Tensor, QuantState]:
    """Nearest 4-bit codes of `A`, two per byte, the first in the high nibble: [(n + 1) // 2, 1] of quant_storage.

    blocksize: None is 64. compress_statistics: absmax is quantized too, in blocks of 256 after its mean is taken away.
    Errors: ValueError for another dtype, blocksize or quant_type, or bytes that do not fill quant_storage.
    """
    blocksize = 64 if blocksize is None else blocksize
    check_floats("quantize_4bit", A)
    check_4bit("quantize_4bit", blocksize, quant_type)
    packed, scales = _quantize_4bit(A, _sorted_table(quant_type, A.device), blocksize)
    packed = _renamed(packed, quant_type, True)
    if packed.numel() % quant_storage.itemsize:
        raise ValueError(
            f"quantize_4bit: quant_storage={quant_storage} needs a multiple of {quant_storage.itemsize} bytes; "
            f"got {packed.numel()}; use torch.uint8"
        )
    packed = packed.view(quant_storage).unsqueeze(1)
    state = QuantState(
        scales,
        shape=A.shape,
        code=get_4bit_type(quant_type, device=A.device),
        blocksize=blocksize,
        quant_type=quant_type,
        dtype=A.dtype,
    )
    if compress_statistics:
        state.nest(NESTED_BLOCK)
    if absmax is not None:
        state.absmax = absmax.copy_(state.absmax)
    return (packed if out is None else out.copy_(packed)), state


def dequantize_4bit(
    A: Tensor,
    quant_state: QuantState | None = None,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int | None = None,
    quant_type: str = "fp4",
) -> Tensor:
    """The values of `quantize_4bit` in quant_state's shape and dtype; a row [1, bytes] gives their transpose.

    Without quant_state, absmax gives the scales and out the shape and dtype.
    Errors: ValueError for missing arguments, another blocksize, quant_type or dtype.
    """
    if quant_state is None:
        if absmax is None or out is None:
            raise ValueError("dequantize_4bit: without quant_state it needs absmax and out")
        quant_state = QuantState(
            absmax,
            shape=out.shape,
            dtype=out.dtype,
            blocksize=64 if blocksize is None else blocksize,
            quant_type=quant_type,
        )
    check_4bit("dequantize_4bit", quant_state.blocksize, quant_state.quant_type)
    if quant_state.dtype not in FLOATS or quant_state.shape is None or quant_state.quant_type is None:
        raise ValueError(
            f"dequantize_4bit: the state needs a shape and a dtype of float32, bfloat16 or float16; "
            f"got {quant_state.shape} and {quant_state.dtype}"
        )
    packed = _renamed(A.contiguous().view(-1).view(torch.uint8), quant_state.quant_type, False)
    values = _dequantize_4bit(
        packed,
        quant_state.scales().to(A.device),
        _sorted_table(quant_state.quant_type, A.device),
        quant_state.blocksize,
        tuple(quant_state.shape),
        quant_state.dtype,
    )
    if out is not None:
        values = out.copy_(values)
    return values.t() if A.shape[0] == 1 and A.ndim == 2 and values.ndim == 2 else values


def quantize_fp4(
    A: Tensor,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int | None = None,
    compress_statistics: bool = False,
    quant_storage: torch.dtype = torch.uint8,
) -> tuple[Tensor, QuantState]:
    """`quantize_4bit` to FP4."""
    return quantize_4bit(A, absmax, out, blocksize, compress_statistics, "fp4", quant_storage)


def quantize_nf4(
    A: Tensor,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int | None = None,
    compress_statistics: bool = False,
    quant_storage: torch.dtype = torch.uint8,
) -> tuple[Tensor, QuantState]:
    """`quantize_4bit` to NF4."""
    return quantize_4bit(A, absmax, out, blocksize, compress_statistics, "nf4", quant_storage)


def dequantize_fp4(
    A: Tensor,
    quant_state: QuantState | None = None,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int | None = None,
) -> Tensor:
    """`dequantize_4bit` of FP4."""
    return dequantize_4bit(A, quant_state, absmax, out, blocksize, "fp4")


def dequantize_nf4(
    A: Tensor,
    quant_state: QuantState | None = None,
    absmax: Tensor | None = None,
    out: Tensor | None = None,
    blocksize: int | None = None,
) -> Tensor:
    """`dequantize_4bit` of NF4."""
    return dequantize_4bit(A, quant_state, absmax, out, blocksize, "nf4")


def packed_product(x: Tensor, packed: Tensor, bias: Tensor | None, state: QuantState) -> Tensor:
    """x @ W^T + bias from the codes themselves, of any storage dtype and either way up; no gradient for W."""
    rows, _ = state.shape or ()
    cast = None if bias is None else bias.to(x.dtype)
    codes = packed.reshape(-1).view(torch.uint8)
    y: Tensor = linear_4bit(x, codes, state.scales(), state.table.float(), state.blocksize, rows, cast)
    return y


def gemv_4bit(
    A: Tensor,
    B: Tensor,
    out: Tensor | None = None,
    transposed_A: bool = False,
    transposed_B: bool = False,
    state: QuantState | None = None,
) -> Tensor:
    """A [..., in] times a 4-bit weight [out, in], transposed: [..., out] of A's dtype.

    Errors: ValueError without a state, or for transposed arguments.
    """
    if state is None:
        raise ValueError("gemv_4bit: it needs the weight's state; got None; pass that of quantize_4bit")
    if transposed_A or transposed_B:
        raise ValueError(
            f"gemv_4bit: it takes no transposed arguments; got transposed_A={transposed_A}, "
            f"transposed_B={transposed_B}; transpose them before"
        )
    product = packed_product(A, B, None, state)
    return product if out is None else out.copy_(product)
