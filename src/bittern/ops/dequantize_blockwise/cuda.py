# SPDX-License-Identifier: Apache-2.0
"""Block-wise dequantization on CUDA, by Triton: a look-up in the table and one product per element."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._triton import launch, tl, triton
from bittern.ops.dequantize_blockwise.arguments import Dequantize4bitArguments, DequantizeArguments
from bittern.ops.quantize_blockwise.cuda import known_tables, look_up, narrow

_TILE = 2048
"""Elements of one program."""


@triton.jit(do_not_specialize=["n"])
def _dequantize_kernel(
    codes: tl.tensor,
    absmax: tl.tensor,
    values: tl.tensor,
    out: tl.tensor,
    n: tl.tensor,
    BLOCK: tl.constexpr,
    NIBBLES: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    index = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = index < n
    if NIBBLES:
        pair = tl.load(codes + index // 2, mask=inside, other=0).to(tl.int32)
        code = tl.where(index % 2 == 0, pair >> 4, pair & 15)
    else:
        code = tl.load(codes + index, mask=inside, other=0).to(tl.int32)
    value = look_up(values, code, 4 if NIBBLES else 8) * tl.load(absmax + index // BLOCK, mask=inside, other=0.0)
    tl.store(out + index, narrow(value, out.dtype.element_ty), mask=inside)


def _dequantize(codes: Tensor, absmax: Tensor, code: Tensor, block_size: int, out: Tensor, nibbles: bool) -> Tensor:
    n = out.numel()
    if n:
        launch(
            _dequantize_kernel,
            triton.cdiv(n, _TILE),
            out,
            codes.contiguous(),
            absmax.contiguous(),
            known_tables(code).values,
            out,
            n,
            BLOCK=block_size,
            NIBBLES=nibbles,
            TILE=_TILE,
        )
    return out


def dequantize_blockwise_cuda(a: DequantizeArguments) -> Tensor:
    out = torch.empty(a.codes.shape, dtype=a.dtype, device=a.codes.device)
    return _dequantize(*a[:4], out, nibbles=False)


def dequantize_4bit_cuda(a: Dequantize4bitArguments) -> Tensor:
    out = torch.empty(list(a.shape), dtype=a.dtype, device=a.packed.device)
    return _dequantize(*a[:4], out, nibbles=True)
