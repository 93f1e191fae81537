# SPDX-License-Identifier: Apache-2.0
"""quantize_blockwise(x, code, block_size=256, *, keep_nonzero=False, seed=None): one byte per element.

x: any shape, float32, bfloat16 or float16, taken in C order and cut into blocks of `block_size` (a power of two from 32
to 4096; the last may be short). code: [2 .. 256] float32, not decreasing, see `bittern.ops.codebooks`.
-> (codes uint8 of x's shape, absmax float32 [ceil(n / block_size)]).
absmax = max |x| over the finite elements of a block; y = x * (1 / absmax), both float32; the code is the index of the
entry nearest to y, the one nearer 0 at a tie. +-inf take the outermost entries; NaN counts as 0, and so does a whole
block whose absmax is below 2^-126.
keep_nonzero: no y > 0 takes the code of 0; for second moments, whose steps explode when they vanish. seed: stochastic
rounding between the two neighbours of y, with the same random bits everywhere.
Errors: TypeError for another dtype, ValueError for a block size or a table that does not fit.
Reference: arXiv:2110.02861.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.quantize_blockwise.arguments import QuantizeArguments
from bittern.ops.quantize_blockwise.check import FLOATS, check_block_size, check_code
from bittern.ops.quantize_blockwise.cpu import quantize_blockwise_cpu
from bittern.ops.quantize_blockwise.quantize_4bit import quantize_4bit
from bittern.ops.quantize_blockwise.reference import quantize_blockwise_reference

__all__ = ["quantize_4bit", "quantize_blockwise"]


def _check(a: QuantizeArguments) -> None:
    check_dtype("quantize_blockwise", "x", a.x, FLOATS)
    check_block_size("quantize_blockwise", a.block_size)
    check_same_device("quantize_blockwise", x=a.x, code=a.code)
    check_code("quantize_blockwise", a.code, keep_nonzero=a.keep_nonzero)


def _fake(a: QuantizeArguments) -> tuple[Tensor, Tensor]:
    codes = torch.empty_like(a.x, dtype=torch.uint8, memory_format=torch.contiguous_format)
    return codes, a.x.new_empty(a.blocks, dtype=torch.float32)


quantize_blockwise: Op[tuple[Tensor, Tensor]] = Op(
    "quantize_blockwise(Tensor x, Tensor code, int block_size=256, *, bool keep_nonzero=False, int? seed=None)"
    " -> (Tensor, Tensor)",
    record=QuantizeArguments,
    check=_check,
    reference=quantize_blockwise_reference,
    fake=_fake,
    cpu=quantize_blockwise_cpu,
    cuda=lazily("bittern.ops.quantize_blockwise.cuda", "quantize_blockwise_cuda"),
)
