# SPDX-License-Identifier: Apache-2.0
"""What the Triton kernels share: words, popcount, the epilogue, and the launch.

Words are int64 in memory and uint64 in arithmetic, so that a right shift brings in zeros. Every kernel also runs in
Triton's interpreter (TRITON_INTERPRET=1 when its module is imported), on CPU tensors and without a GPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError("bittern.ops: CUDA tensors need Triton, which is missing; pip install 'bittern[gpu]'") from error

__all__ = [
    "TILE_MOST",
    "fold_epilogue",
    "launch",
    "load_words",
    "ones",
    "popcount",
    "tile_size",
    "tl",
    "triton",
    "widen",
]

TILE_LEAST, TILE_MOST = 16, 64
"""Sides of the tile that one program counts: large enough to reuse words, small enough for its registers."""


@triton.jit
def load_words(pointer: tl.tensor, mask: tl.tensor) -> tl.tensor:
    """uint64 words; 0 where the mask is false."""
    return tl.load(pointer, mask=mask, other=0).to(tl.uint64, bitcast=True)


@triton.jit
def widen(values: tl.tensor) -> tl.tensor:
    """float16 and bfloat16 as float32, others as they are.

    A bfloat16 is the upper half of a float32. It is widened by a shift because the interpreter, which cannot compare
    bfloat16, makes an infinity of NaN when it casts it.
    """
    if values.dtype == tl.bfloat16:
        return (values.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    elif values.dtype == tl.float16:
        return values.to(tl.float32)
    else:
        return values


@triton.jit
def ones(count: tl.tensor) -> tl.tensor:
    """uint64 scalar whose low `count` bits are 1, for 1 <= count <= 64."""
    return tl.full((), -1, tl.int64).to(tl.uint64, bitcast=True) >> (64 - count).to(tl.uint64)


@triton.jit
def popcount(words: tl.tensor) -> tl.tensor:
    """Number of 1 bits of each uint64, as int32: the sum of bits in pairs, then nibbles, then bytes.

    The masks are 64 bits of 01, 0011 and 00001111; the product adds the eight bytes into the highest one. LLVM knows
    this shape and emits one popcount instruction; Triton has no portable spelling of it.
    """
    words = words - ((words >> 1) & 0x5555555555555555)
    words = (words & 0x3333333333333333) + ((words >> 2) & 0x3333333333333333)
    words = (words + (words >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((words * 0x0101010101010101) >> 56).to(tl.int32)


@triton.jit
def fold_epilogue(acc: tl.tensor, epilogue: tl.tensor, columns: tl.tensor, n: tl.tensor) -> tl.tensor:
    """fma(fl(fl(acc + offset) * scale), alpha, beta) for acc [rows, columns] and epilogue [4, n].

    Three roundings: no product feeds a sum but in the explicit fma, and `launch` forbids contraction besides.
    """
    mask = columns < n
    offset = tl.load(epilogue + columns, mask=mask, other=0.0)
    scale = tl.load(epilogue + n + columns, mask=mask, other=0.0)
    alpha = tl.load(epilogue + 2 * n + columns, mask=mask, other=0.0)
    beta = tl.load(epilogue + 3 * n + columns, mask=mask, other=0.0)
    scaled = (acc.to(tl.float32) + offset[None, :]) * scale[None, :]
    alpha, scaled = tl.broadcast(alpha[None, :], scaled)
    beta, scaled = tl.broadcast(beta[None, :], scaled)
    return tl.fma(scaled, alpha, beta)


def tile_size(n: int) -> int:
    """Side of a tile along n rows or columns: the power of two that covers n, within [TILE_LEAST, TILE_MOST]."""
    return max(TILE_LEAST, min(TILE_MOST, 1 << (n - 1).bit_length()))


def launch(kernel: Any, blocks: int, out: Tensor, *args: Any, **constants: Any) -> None:
    """Run `kernel` on `blocks` programs, on the device of `out`, without contraction of products and sums.

    Raises: RuntimeError for a CPU tensor outside Triton's interpreter.
    """
    if not out.is_cuda and isinstance(kernel, triton.runtime.JITFunction):
        raise RuntimeError(
            f"bittern.ops: Triton kernels need CUDA tensors; got {out.device}; call the op itself, which runs native "
            "code on the CPU, or set TRITON_INTERPRET=1 before the first import"
        )
    with torch.cuda.device(out.device) if out.is_cuda else nullcontext():
        kernel[(blocks,)](*args, **constants, enable_fp_fusion=False)
