# SPDX-License-Identifier: Apache-2.0
"""dequantize_4bit(packed, absmax, code, block_size, shape, dtype=torch.float32): the values of `quantize_4bit`.

packed: uint8 [ceil(n / 2)] or any shape of that many bytes, in C order; n the number of elements of `shape`; absmax:
float32 [ceil(n / block_size)]; code: [16] float32. -> tensor of `shape` and `dtype` (float32, bfloat16, float16).
Errors: TypeError for another dtype, ValueError where packed, absmax and shape do not fit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device
from bittern.ops._isa import Isa
from bittern.ops._op import Op, lazily
from bittern.ops.dequantize_blockwise.arguments import Dequantize4bitArguments, DequantizeArguments
from bittern.ops.dequantize_blockwise.cpu import dequantize_flat
from bittern.ops.dequantize_blockwise.reference import dequantize_blockwise_reference
from bittern.ops.quantize_blockwise.check import check_absmax, check_block_size, check_code, check_float


def _check(a: Dequantize4bitArguments) -> None:
    packed, absmax, code, block_size, shape, dtype = a
    check_dtype("dequantize_4bit", "packed", packed, (torch.uint8,))
    check_float("dequantize_4bit", dtype)
    check_block_size("dequantize_4bit", block_size)
    check_same_device("dequantize_4bit", packed=packed, absmax=absmax, code=code)
    n = math.prod(shape)
    if packed.numel() != -(-n // 2):
        raise ValueError(
            f"dequantize_4bit: packed must hold {-(-n // 2)} bytes for shape {list(shape)}; got {packed.numel()}"
        )
    check_absmax("dequantize_4bit", absmax, n, block_size)
    check_code("dequantize_4bit", code, 16, 16)


def _reference(a: Dequantize4bitArguments) -> Tensor:
    """`dequantize_blockwise` of the nibbles, the high one first."""
    flat = a.packed.reshape(-1)
    codes = torch.stack([flat >> 4, flat & 15], -1).reshape(-1)[: math.prod(a.shape)]
    whole = DequantizeArguments(codes, a.absmax, a.code, a.block_size, a.dtype)
    return dequantize_blockwise_reference(whole).view(list(a.shape))


def _cpu(isa: Isa, a: Dequantize4bitArguments) -> Tensor:
    out = torch.empty(list(a.shape), dtype=a.dtype)
    dequantize_flat(isa, *a[:4], True, out)
    return out


def _fake(a: Dequantize4bitArguments) -> Tensor:
    return a.packed.new_empty(list(a.shape), dtype=a.dtype)


dequantize_4bit: Op[Tensor] = Op(
    "dequantize_4bit(Tensor packed, Tensor absmax, Tensor code, int block_size, SymInt[] shape, ScalarType dtype=6)"
    " -> Tensor",
    record=Dequantize4bitArguments,
    check=_check,
    reference=_reference,
    fake=_fake,
    cpu=_cpu,
    cuda=lazily("bittern.ops.dequantize_blockwise.cuda", "dequantize_4bit_cuda"),
)
