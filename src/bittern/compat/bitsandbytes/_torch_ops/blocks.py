# SPDX-License-Identifier: Apache-2.0
"""The operators of block-wise 8-bit and 4-bit codes under their names in `torch.ops.bitsandbytes`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.compat.bitsandbytes._blockwise import dequantize_blockwise, quantize_blockwise
from bittern.compat.bitsandbytes._four_bit import (
    NESTED_BLOCK,
    check_4bit,
    dequantize_4bit,
    packed_product,
    quantize_4bit,
)
from bittern.compat.bitsandbytes._maps import get_4bit_type
from bittern.compat.bitsandbytes._quant_state import QuantState
from bittern.compat.bitsandbytes._torch_ops._operator import Operator, filling


def _blocks(n: int, blocksize: int) -> int:
    return -(-n // blocksize)


def _encode(A: Tensor, code: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    codes, state = quantize_blockwise(A, code, blocksize=blocksize)
    return codes, state.absmax


def _encode_fake(A: Tensor, code: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    absmax = A.new_empty(_blocks(A.numel(), blocksize), dtype=torch.float32)
    return A.new_empty(A.shape, dtype=torch.uint8), absmax


def _decode(A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype) -> Tensor:
    return dequantize_blockwise(A, QuantState(absmax, code=code, blocksize=blocksize, dtype=dtype))


def _decode_fake(A: Tensor, absmax: Tensor, code: Tensor, blocksize: int, dtype: torch.dtype) -> Tensor:
    return A.new_empty(A.shape, dtype=dtype)


def _encode_4bit(A: Tensor, blocksize: int, quant_type: str, quant_storage: torch.dtype) -> tuple[Tensor, Tensor]:
    packed, state = quantize_4bit(A, blocksize=blocksize, quant_type=quant_type, quant_storage=quant_storage)
    return packed, state.absmax


def _encode_4bit_fake(A: Tensor, blocksize: int, quant_type: str, quant_storage: torch.dtype) -> tuple[Tensor, Tensor]:
    check_4bit("quantize_4bit", blocksize, quant_type)
    n = A.numel()
    packed = A.new_empty(((n + 1) // 2 // quant_storage.itemsize, 1), dtype=quant_storage)
    return packed, A.new_empty(_blocks(n, blocksize), dtype=torch.float32)


def _decode_4bit(
    A: Tensor, absmax: Tensor, blocksize: int, quant_type: str, shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    state = QuantState(absmax, shape=torch.Size(shape), blocksize=blocksize, quant_type=quant_type, dtype=dtype)
    return dequantize_4bit(A.reshape(-1, 1), state)


def _decode_4bit_fake(
    A: Tensor, absmax: Tensor, blocksize: int, quant_type: str, shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    check_4bit("dequantize_4bit", blocksize, quant_type)
    return A.new_empty(shape, dtype=dtype)


def _gemv(A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int) -> Tensor:
    state = QuantState(absmax, shape=torch.Size(shapeB), code=code, blocksize=blocksize)
    return packed_product(A, B, None, state)


def _gemv_fake(A: Tensor, B: Tensor, shapeB: Sequence[int], absmax: Tensor, code: Tensor, blocksize: int) -> Tensor:
    return A.new_empty((*A.shape[:-1], shapeB[0]))


def _gemm(
    A: Tensor,
    B: Tensor,
    shapeB: Sequence[int],
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    bias: Tensor | None = None,
    absmax_8bit: Tensor | None = None,
    absmax_code: Tensor | None = None,
    absmax_offset: Tensor | None = None,
) -> Tensor:
    _check_nested(absmax_8bit, absmax_code, absmax_offset)
    inner = None
    if absmax_8bit is not None:
        inner = QuantState(absmax, code=absmax_code, blocksize=NESTED_BLOCK, dtype=torch.float32)
    state = QuantState(
        absmax if absmax_8bit is None else absmax_8bit,
        shape=torch.Size(shapeB),
        code=get_4bit_type(quant_type, device=A.device),
        blocksize=blocksize,
        offset=absmax_offset,
        state2=inner,
    )
    return packed_product(A, B, bias, state)


def _gemm_fake(
    A: Tensor,
    B: Tensor,
    shapeB: Sequence[int],
    absmax: Tensor,
    blocksize: int,
    quant_type: str,
    bias: Tensor | None = None,
    absmax_8bit: Tensor | None = None,
    absmax_code: Tensor | None = None,
    absmax_offset: Tensor | None = None,
) -> Tensor:
    check_4bit("gemm_4bit", blocksize, quant_type)
    _check_nested(absmax_8bit, absmax_code, absmax_offset)
    return A.new_empty((*A.shape[:-1], shapeB[0]))


def _check_nested(codes: Tensor | None, code: Tensor | None, offset: Tensor | None) -> None:
    given = [name for name, x in (("absmax_code", code), ("absmax_offset", offset)) if x is not None]
    if len(given) != (0 if codes is None else 2):
        raise ValueError(
            "gemm_4bit: absmax_8bit, absmax_code and absmax_offset go together; "
            f"got {'no ' if codes is None else ''}absmax_8bit and {' and '.join(given) or 'neither of the others'}"
        )


_DECODE = Operator(
    "dequantize_blockwise(Tensor A, Tensor absmax, Tensor code, int blocksize, ScalarType dtype) -> Tensor",
    _decode,
    _decode_fake,
)
_DECODE_4BIT = Operator(
    "dequantize_4bit(Tensor A, Tensor absmax, int blocksize, str quant_type, int[] shape, ScalarType dtype) -> Tensor",
    _decode_4bit,
    _decode_4bit_fake,
)
_GEMV = Operator(
    "gemv_4bit(Tensor A, Tensor B, int[] shapeB, Tensor absmax, Tensor code, int blocksize) -> Tensor",
    _gemv,
    _gemv_fake,
)

OPERATORS = (
    Operator("quantize_blockwise(Tensor A, Tensor code, int blocksize) -> (Tensor, Tensor)", _encode, _encode_fake),
    _DECODE,
    filling(
        _DECODE,
        "dequantize_blockwise.out(Tensor A, Tensor absmax, Tensor code, int blocksize, ScalarType dtype, "
        "Tensor(a!) out) -> ()",
    ),
    Operator(
        "quantize_4bit(Tensor A, int blocksize, str quant_type, ScalarType quant_storage) -> (Tensor, Tensor)",
        _encode_4bit,
        _encode_4bit_fake,
    ),
    _DECODE_4BIT,
    filling(
        _DECODE_4BIT,
        "dequantize_4bit.out(Tensor A, Tensor absmax, int blocksize, str quant_type, int[] shape, ScalarType dtype, "
        "Tensor(a!) out) -> ()",
    ),
    _GEMV,
    filling(
        _GEMV,
        "gemv_4bit.out(Tensor A, Tensor B, int[] shapeB, Tensor absmax, Tensor code, int blocksize, Tensor(a!) out)"
        " -> ()",
    ),
    Operator(
        "gemm_4bit(Tensor A, Tensor B, int[] shapeB, Tensor absmax, int blocksize, str quant_type, Tensor? bias=None, "
        "Tensor? absmax_8bit=None, Tensor? absmax_code=None, Tensor? absmax_offset=None) -> Tensor",
        _gemm,
        _gemm_fake,
    ),
)
