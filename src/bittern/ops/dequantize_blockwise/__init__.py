# SPDX-License-Identifier: Apache-2.0
"""dequantize_blockwise(codes, absmax, code, block_size=256, dtype=torch.float32): the values of `quantize_blockwise`.

codes: uint8, any shape, in C order; absmax: float32 [ceil(n / block_size)]; code: [2 .. 256] float32.
-> code[codes] * absmax of the block, in float32, then rounded to `dtype` (float32, bfloat16, float16), of codes' shape.
A code beyond the table gives 0.
Errors: TypeError for another dtype, ValueError for an absmax, block size or table that does not fit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.dequantize_blockwise.arguments import DequantizeArguments
from bittern.ops.dequantize_blockwise.cpu import dequantize_blockwise_cpu
from bittern.ops.dequantize_blockwise.dequantize_4bit import dequantize_4bit
from bittern.ops.dequantize_blockwise.reference import dequantize_blockwise_reference
from bittern.ops.quantize_blockwise.check import check_absmax, check_block_size, check_code, check_float

__all__ = ["dequantize_4bit", "dequantize_blockwise"]


def _check(a: DequantizeArguments) -> None:
    codes, absmax, code, block_size, dtype = a
    check_dtype("dequantize_blockwise", "codes", codes, (torch.uint8,))
    check_float("dequantize_blockwise", dtype)
    check_block_size("dequantize_blockwise", block_size)
    check_same_device("dequantize_blockwise", codes=codes, absmax=absmax, code=code)
    check_absmax("dequantize_blockwise", absmax, codes.numel(), block_size)
    check_code("dequantize_blockwise", code)


def _fake(a: DequantizeArguments) -> Tensor:
    return torch.empty_like(a.codes, dtype=a.dtype, memory_format=torch.contiguous_format)


dequantize_blockwise: Op[Tensor] = Op(
    "dequantize_blockwise(Tensor codes, Tensor absmax, Tensor code, int block_size=256, ScalarType dtype=6) -> Tensor",
    record=DequantizeArguments,
    check=_check,
    reference=dequantize_blockwise_reference,
    fake=_fake,
    cpu=dequantize_blockwise_cpu,
    cuda=lazily("bittern.ops.dequantize_blockwise.cuda", "dequantize_blockwise_cuda"),
)
