"""`bitsandbytes.functional`: code tables, block-wise 8-bit and 4-bit quantization, and the state they leave.

Signatures and results are those of bitsandbytes 0.50; the codes come from `bittern.ops` and are the nearest ones, with
0 -> 0 (docs/bitsandbytes.md lists the differences).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from bittern.compat.bitsandbytes._int8 import (
    int8_double_quant,
    int8_linear_matmul,
    int8_mm_dequant,
    int8_vectorwise_dequant,
    int8_vectorwise_quant,
)
from bittern.compat.bitsandbytes._maps import (
    create_dynamic_map,
    create_fp8_map,
    create_linear_map,
    create_normal_map,
    get_4bit_type,
)
from bittern.compat.bitsandbytes._quant_state import QuantState
from bittern.compat.bitsandbytes._update import optimizer_update_8bit_blockwise, optimizer_update_32bit
from bittern.ops import codebooks
from bittern.ops import dequantize_4bit as _dequantize_4bit
from bittern.ops import dequantize_blockwise as _dequantize_blockwise
from bittern.ops import quantize_4bit as _quantize_4bit
from bittern.ops import quantize_blockwise as _quantize_blockwise

__all__ = [
    "QuantState",
    "create_dynamic_map",
    "create_fp8_map",
    "create_linear_map",
    "create_normal_map",
    "dequantize_4bit",
    "dequantize_blockwise",
    "dequantize_fp4",
    "dequantize_nf4",
    "gemv_4bit",
    "get_4bit_type",
    "int8_double_quant",
    "int8_linear_matmul",
    "int8_mm_dequant",
    "int8_vectorwise_dequant",
    "int8_vectorwise_quant",
    "optimizer_update_8bit_blockwise",
    "optimizer_update_32bit",
    "quantize_4bit",
    "quantize_blockwise",
    "quantize_fp4",
    "quantize_nf4",
]

BLOCK_SIZES = tuple(2**k for k in range(5, 13))
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_NESTED_BLOCK = 256
"""Block size of the absmax of 4-bit weights when they are quantized themselves (QLoRA, arXiv:2305.14314)."""


@cache
def _dynamic() -> Tensor:
    return codebooks.dynamic_tree(signed=True, bits=8)


def _check_floats(op: str, a: Tensor) -> None:
    if a.dtype not in _FLOATS:
        raise ValueError(f"{op}: A must be float32, bfloat16 or float16; got {a.dtype}")


def _check_block_size(op: str, blocksize: int) -> None:
    if blocksize not in BLOCK_SIZES:
        raise ValueError(f"{op}: blocksize must be a power of two from 32 to 4096; got {blocksize}")


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
    instead of new tensors. nested: absmax is quantized too, after its mean is taken away.
    Errors: ValueError for another dtype or a blocksize that is no power of two from 32 to 4096.
    """
    _check_floats("quantize_blockwise", A)
    _check_block_size("quantize_blockwise", blocksize)
    code = (_dynamic() if code is None else code.float()).to(A.device)
    codes, scales = _quantize_blockwise(A, code, blocksize)
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
    says so itself), for a blocksize that is no power of two from 32 to 4096.
    """
    if nested:
        raise ValueError("dequantize_blockwise: nested is read from quant_state; pass the state and leave it out")
    if quant_state is None:
        if absmax is None:
            raise ValueError("dequantize_blockwise: needs quant_state or absmax; got neither")
        table = _dynamic() if code is None else code
        quant_state = QuantState(absmax, code=table, blocksize=blocksize, dtype=torch.float32)
    if A.dtype != torch.uint8:
        raise ValueError(f"dequantize_blockwise: A must be uint8; got {A.dtype}")
    _check_block_size("dequantize_blockwise", quant_state.blocksize)
    table = quant_state.table.to(A.device)
    scales = quant_state.scales().to(A.device)
    values = _dequantize_blockwise(A, scales, table, quant_state.blocksize, quant_state.dtype or torch.float32)
    return values if out is None else out.copy_(values)


@cache
def _sorted_table(quant_type: str) -> Tensor:
    return codebooks.nf4() if quant_type == "nf4" else codebooks.fp4()


@cache
def _fp4_bytes(to_stored: bool) -> Tensor:
    """Table over bytes that renames both nibbles between the sorted order of FP4 and the stored bit patterns."""
    pattern = torch.tensor(codebooks.FP4_PATTERN)
    rename = pattern.argsort() if to_stored else pattern
    byte = torch.arange(256)
    return (rename[byte >> 4] << 4 | rename[byte & 15]).to(torch.uint8)


def _renamed(packed: Tensor, quant_type: str, to_stored: bool) -> Tensor:
    if quant_type == "nf4":
        return packed
    return _fp4_bytes(to_stored).to(packed.device)[packed.long()]


def _check_4bit(op: str, blocksize: int, quant_type: str | None) -> None:
    _check_block_size(op, blocksize)
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
    _check_floats("quantize_4bit", A)
    _check_4bit("quantize_4bit", blocksize, quant_type)
    packed, scales = _quantize_4bit(A, _sorted_table(quant_type).to(A.device), blocksize)
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
        state.nest(_NESTED_BLOCK)
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
    _check_4bit("dequantize_4bit", quant_state.blocksize, quant_state.quant_type)
    if quant_state.dtype not in _FLOATS or quant_state.shape is None or quant_state.quant_type is None:
        raise ValueError(
            f"dequantize_4bit: the state needs a shape and a dtype of float32, bfloat16 or float16; "
            f"got {quant_state.shape} and {quant_state.dtype}"
        )
    packed = _renamed(A.contiguous().view(-1).view(torch.uint8), quant_state.quant_type, False)
    values = _dequantize_4bit(
        packed,
        quant_state.scales().to(A.device),
        _sorted_table(quant_state.quant_type).to(A.device),
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
    if state is None or transposed_A or transposed_B:
        raise ValueError("gemv_4bit: it needs state, and takes no transposed arguments")
    product = A @ dequantize_4bit(B.reshape(-1, 1), state).to(A.dtype).t()
    return product if out is None else out.copy_(product)
