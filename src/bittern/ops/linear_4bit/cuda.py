# SPDX-License-Identifier: Apache-2.0
"""`linear_4bit` and its backward on CUDA, by Triton: tiles of the weight are decoded on their way to the product.

Forward and backward differ in the dimension that is summed: W[o, s] lies at o * in + s, or at s * in + o.
Scales in bytes are decoded before the launch, in full.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._triton import launch, tl, triton, widen
from bittern.ops.linear_4bit.arguments import BackwardArguments, Linear4bitArguments
from bittern.ops.linear_4bit.scales import decoded_absmax
from bittern.ops.quantize_blockwise.cuda import narrow

_FEW = 4
"""Inputs up to which a program sums the products of one input itself; more go through matrix products."""
_TILE = {"INPUTS": 16, "OUT": 64, "SUM": 64}


@triton.jit
def _weight_tile(  # type: ignore[no-untyped-def]
    packed, absmax, code, flat, inside, BLOCK: tl.constexpr, TYPE: tl.constexpr
):
    """code * absmax at the flat indices, rounded to TYPE; 0 where there is none."""
    pair = tl.load(packed + flat // 2, mask=inside, other=0).to(tl.int32)
    nibble = tl.where(flat % 2 == 0, pair >> 4, pair & 15)
    value = tl.load(code + nibble) * tl.load(absmax + flat // BLOCK, mask=inside, other=0.0)
    return narrow(tl.where(inside, value, 0.0), TYPE)


@triton.jit(do_not_specialize=["outs", "sums"])
def _vector_kernel(  # type: ignore[no-untyped-def]
    x, packed, absmax, code, bias, out, outs, sums, out_stride, sum_stride,
    BLOCK: tl.constexpr, OUT: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """One input, OUT of its results."""
    tiles = tl.cdiv(outs, OUT)
    row = (tl.program_id(0) // tiles).to(tl.int64)
    o = (tl.program_id(0) % tiles).to(tl.int64) * OUT + tl.arange(0, OUT)
    total = tl.zeros((OUT,), tl.float32)
    for start in range(0, sums, SUM):
        s = start + tl.arange(0, SUM).to(tl.int64)
        number = widen(tl.load(x + row * sums + s, mask=s < sums, other=0.0))
        inside = (o < outs)[:, None] & (s < sums)[None, :]
        flat = o[:, None] * out_stride + s[None, :] * sum_stride
        weight = widen(_weight_tile(packed, absmax, code, flat, inside, BLOCK, x.dtype.element_ty))
        total += tl.sum(weight * number[None, :], axis=1)
    if bias is not None:
        total += widen(tl.load(bias + o, mask=o < outs, other=0.0))
    tl.store(out + row * outs + o, narrow(total, out.dtype.element_ty), mask=o < outs)


@triton.jit(do_not_specialize=["m", "outs", "sums"])
def _matrix_kernel(  # type: ignore[no-untyped-def]
    x, packed, absmax, code, bias, out, m, outs, sums, out_stride, sum_stride,
    BLOCK: tl.constexpr, INPUTS: tl.constexpr, OUT: tl.constexpr, SUM: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """A tile of inputs x results. WIDE: products in float32, else of 16-bit numbers, which are exact there too."""
    tiles = tl.cdiv(outs, OUT)
    row = (tl.program_id(0) // tiles).to(tl.int64) * INPUTS + tl.arange(0, INPUTS)
    o = (tl.program_id(0) % tiles).to(tl.int64) * OUT + tl.arange(0, OUT)
    total = tl.zeros((INPUTS, OUT), tl.float32)
    for start in range(0, sums, SUM):
        s = start + tl.arange(0, SUM).to(tl.int64)
        number = tl.load(x + row[:, None] * sums + s[None, :], mask=(row < m)[:, None] & (s < sums)[None, :], other=0.0)
        inside = (o < outs)[None, :] & (s < sums)[:, None]
        flat = o[None, :] * out_stride + s[:, None] * sum_stride
        weight = _weight_tile(packed, absmax, code, flat, inside, BLOCK, x.dtype.element_ty)
        if WIDE:
            total += tl.dot(widen(number), widen(weight), input_precision="ieee")
        else:
            total += tl.dot(number, weight)
    if bias is not None:
        total += widen(tl.load(bias + o, mask=o < outs, other=0.0))[None, :]
    mask = (row < m)[:, None] & (o < outs)[None, :]
    tl.store(out + row[:, None] * outs + o[None, :], narrow(total, out.dtype.element_ty), mask=mask)


def _product(
    x: Tensor, packed: Tensor, absmax: Tensor, code: Tensor, block_size: int, outs: int, strides: tuple[int, int],
    bias: Tensor | None,
) -> Tensor:  # fmt: skip
    sums, m = x.shape[-1], x.shape[:-1].numel()
    out = torch.empty((*x.shape[:-1], outs), dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    weight = (packed.contiguous(), absmax.contiguous(), code.contiguous())
    tensors = (x.contiguous(), *weight, None if bias is None else bias.contiguous(), out)
    tiles = triton.cdiv(outs, _TILE["OUT"])
    if m <= _FEW:
        constants = {"BLOCK": block_size, "OUT": _TILE["OUT"], "SUM": _TILE["SUM"]}
        launch(_vector_kernel, m * tiles, out, *tensors, outs, sums, *strides, **constants)
    else:
        # Triton's interpreter has no arithmetic for bfloat16
        wide = x.dtype == torch.float32 or not isinstance(_matrix_kernel, triton.runtime.JITFunction)
        blocks = triton.cdiv(m, _TILE["INPUTS"]) * tiles
        launch(_matrix_kernel, blocks, out, *tensors, m, outs, sums, *strides, BLOCK=block_size, WIDE=wide, **_TILE)
    return out


def linear_4bit_cuda(a: Linear4bitArguments) -> Tensor:
    absmax = decoded_absmax(a.absmax, a.absmax_scales, a.absmax_offset)
    return _product(a.x, a.packed, absmax, *a[3:6], (a.x.shape[-1], 1), a.bias)


def linear_4bit_backward_cuda(a: BackwardArguments) -> Tensor:
    absmax = decoded_absmax(a.absmax, a.absmax_scales, a.absmax_offset)
    return _product(a.grad, a.packed, absmax, *a[3:6], (1, a.in_features), None)
