# SPDX-License-Identifier: Apache-2.0
"""pool_bits(x, kernel, stride, padding, ceil=False, flip=None): max pooling of signs, on packed words.

x: int64 [batch, height, width, words], signs packed along the channels. kernel, stride, padding: two sizes each; ceil:
whether a window that reaches beyond the padded image counts, as in torch's pools. flip: int64 [words]; a channel whose
bit is 1 there takes the minimum.

    out = (OR over the window of x ^ flip) ^ flip

-> int64 [batch, out_height, out_width, words]. A sign of a maximum is the maximum of the signs, and where the sign's
function falls, their minimum.
Errors: TypeError / ValueError for wrong dtypes, shapes or geometry.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device
from bittern.ops._op import Op
from bittern.ops.pool_bits.arguments import PoolBitsArguments
from bittern.ops.pool_bits.cpu import pool_bits_cpu, pool_bits_step
from bittern.ops.pool_bits.reference import pool_bits_reference

__all__ = ["pool_bits", "pool_bits_step"]

IMAGE_DIMS = 4


def _check(a: PoolBitsArguments) -> None:
    op = "pool_bits"
    x, kernel, stride, padding, _, flip = a
    check_dtype(op, "x", x, (torch.int64,))
    if x.ndim != IMAGE_DIMS or x.shape[-1] == 0:
        raise ValueError(f"{op}: x must be [batch, height, width, words]; got {list(x.shape)}; make it with pack_signs")
    for name, pair, least in (("kernel", kernel, 1), ("stride", stride, 1), ("padding", padding, 0)):
        if len(pair) != 2 or min(pair) < least:
            raise ValueError(f"{op}: {name} must be two sizes of at least {least}; got {list(pair)}")
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(f"{op}: padding must be at most half the kernel {list(kernel)}; got {list(padding)}")
    if min(a.output_size) < 1:
        raise ValueError(f"{op}: a window of {list(kernel)} does not fit into {list(x.shape[1:3])}")
    if flip is not None:
        check_dtype(op, "flip", flip, (torch.int64,))
        if tuple(flip.shape) != (x.shape[-1],):
            raise ValueError(f"{op}: flip must be [{x.shape[-1]}], the words of a pixel; got {list(flip.shape)}")
    check_same_device(op, x=x, flip=flip)


def _fake(a: PoolBitsArguments) -> Tensor:
    return a.x.new_empty((a.x.shape[0], *a.output_size, a.x.shape[-1]))


pool_bits: Op[Tensor] = Op(
    "pool_bits(Tensor x, int[] kernel, int[] stride, int[] padding, bool ceil=False, Tensor? flip=None) -> Tensor",
    record=PoolBitsArguments,
    check=_check,
    reference=pool_bits_reference,
    fake=_fake,
    cpu=pool_bits_cpu,
    cuda=pool_bits_reference,  # a few words per pixel: torch's own kernels are as good
)
