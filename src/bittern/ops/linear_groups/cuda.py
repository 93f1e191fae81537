# SPDX-License-Identifier: Apache-2.0
"""`linear_groups` and `dequantize_groups` on CUDA, by Triton.

Few inputs: a program sums for one input and the 16 outputs of a tile of rows, whose words it reads as they lie. A code
is the sum of its planes, so that each plane has a sum of its own, and a tile of columns lies in one group:

    y[o] = sum over tiles of (sum of code * x - zero * sum of x) * scale

More inputs: W is decoded into float32, some rows at a time, and multiplied by torch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._triton import launch, tl, triton, widen
from bittern.ops.linear_groups.arguments import DequantizeGroupsArguments, LinearGroupsArguments
from bittern.ops.linear_groups.layout import ROWS
from bittern.ops.linear_groups.reference import linear_groups_reference
from bittern.ops.quantize_blockwise.cuda import narrow

_FEW = 4
"""Inputs up to which codes are multiplied as they are decoded."""
_AT_ONCE = 4096
"""Rows of W that are decoded at a time for more: 64 MiB of float32 with 4096 columns."""
_TILES = {2: 32, 3: 16, 4: 16, 8: 8}
"""Bits -> tiles of columns that a program multiplies at a time."""
_BLOCK = {"OUTS": 16, "COLUMNS": 128}
"""What a program decodes."""


@triton.jit
def _tile_product(  # type: ignore[no-untyped-def]
    x, codes, tile, wide, columns,
    BITS: tl.constexpr, LOW: tl.constexpr, PLANE: tl.constexpr,
):  # fmt: skip
    """[tiles, 16]: for each row the sum of x times the part of its codes in the plane of PLANE bits from LOW on."""
    word, lane = tl.arange(0, PLANE), tl.arange(0, 16)
    place = (tile[:, None, None] * BITS + LOW + word[None, :, None]) * 16 + lane[None, None, :]
    words = tl.load(codes + place, mask=(tile < wide)[:, None, None], other=0)
    total = tl.zeros(words.shape, tl.float32)
    for slot in tl.static_range(32 // PLANE):
        column = tile[:, None] * 32 + word[None, :] * (32 // PLANE) + slot
        number = widen(tl.load(x + column, mask=column < columns, other=0.0))
        part = words >> (8 * (slot % 4) + PLANE * (slot // 4)) & ((1 << PLANE) - 1)
        total += part.to(tl.float32) * number[:, :, None]
    return tl.sum(total, axis=1) * (1 << LOW)


@triton.jit(do_not_specialize=["outs", "columns", "wide", "groups"])
def _vector_kernel(  # type: ignore[no-untyped-def]
    x, codes, scale, zero, bias, out, outs, columns, wide, groups,
    BITS: tl.constexpr, GROUP: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """One input, 16 of its results."""
    high = tl.cdiv(outs, 16)
    row = (tl.program_id(0) // high).to(tl.int64)
    block = (tl.program_id(0) % high).to(tl.int64)
    x += row * columns
    codes += block * wide * BITS * 16
    lane = tl.arange(0, 16)
    total = tl.zeros((16,), tl.float32)
    for start in range(0, wide, TILES):
        tile = start + tl.arange(0, TILES).to(tl.int64)
        if BITS == 3:
            product = _tile_product(x, codes, tile, wide, columns, 3, 0, 2)
            product += _tile_product(x, codes, tile, wide, columns, 3, 2, 1)
        else:
            product = _tile_product(x, codes, tile, wide, columns, BITS, 0, BITS)
        column = tile[:, None] * 32 + tl.arange(0, 32)[None, :]
        numbers = tl.sum(widen(tl.load(x + column, mask=column < columns, other=0.0)), axis=1)[:, None]
        group = tile * 32 // GROUP if GROUP else tile * 0
        place = (block * groups + group)[:, None] * 16 + lane[None, :]
        inside = (tile < wide)[:, None]
        if zero is None:
            product -= numbers * (1 << (BITS - 1))
        else:
            product -= numbers * tl.load(zero + place, mask=inside, other=0).to(tl.float32)
        total += tl.sum(product * widen(tl.load(scale + place, mask=inside, other=0.0)), axis=0)
    o = block * 16 + lane
    if bias is not None:
        total += widen(tl.load(bias + o, mask=o < outs, other=0.0))
    tl.store(out + row * outs + o, narrow(total, out.dtype.element_ty), mask=o < outs)


@triton.jit
def _plane(  # type: ignore[no-untyped-def]
    codes, tile, lane, inner, inside, BITS: tl.constexpr, LOW: tl.constexpr, PLANE: tl.constexpr
):
    """The part of codes in the plane of PLANE bits from LOW on. inner: columns in their tile."""
    slot = inner % (32 // PLANE)
    words = tl.load(codes + (tile * BITS + LOW + inner // (32 // PLANE)) * 16 + lane, mask=inside, other=0)
    return (words >> (8 * (slot % 4) + PLANE * (slot // 4)).to(tl.int32) & ((1 << PLANE) - 1)) << LOW


@triton.jit(do_not_specialize=["outs", "columns", "wide", "groups"])
def _dequantize_kernel(  # type: ignore[no-untyped-def]
    codes, scale, zero, out, outs, columns, wide, groups,
    BITS: tl.constexpr, GROUP: tl.constexpr, OUTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(columns, COLUMNS)
    o = ((tl.program_id(0) // across).to(tl.int64) * OUTS + tl.arange(0, OUTS))[:, None]
    s = ((tl.program_id(0) % across).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS))[None, :]
    inside = (o < outs) & (s < columns)
    tile = o // 16 * wide + s // 32
    if BITS == 3:
        code = _plane(codes, tile, o % 16, s % 32, inside, 3, 0, 2)
        code |= _plane(codes, tile, o % 16, s % 32, inside, 3, 2, 1)
    else:
        code = _plane(codes, tile, o % 16, s % 32, inside, BITS, 0, BITS)
    group = s // GROUP if GROUP else s * 0
    place = (o // 16 * groups + group) * 16 + o % 16
    value = code.to(tl.float32)
    if zero is None:
        value -= 1 << (BITS - 1)
    else:
        value -= tl.load(zero + place, mask=inside, other=0).to(tl.float32)
    value *= widen(tl.load(scale + place, mask=inside, other=0.0))
    tl.store(out + o * columns + s, narrow(value, out.dtype.element_ty), mask=inside)


def dequantize_groups_cuda(a: DequantizeGroupsArguments) -> Tensor:
    rows, columns = a.out_features, a.in_features
    out = torch.empty(rows, columns, dtype=a.dtype, device=a.codes.device)
    if out.numel():
        _, wide, bits, _ = a.codes.shape
        weight = (a.codes.contiguous(), a.scale.contiguous(), None if a.zero is None else a.zero.contiguous())
        blocks = triton.cdiv(rows, _BLOCK["OUTS"]) * triton.cdiv(columns, _BLOCK["COLUMNS"])
        sizes = (rows, columns, wide, a.scale.shape[1])
        launch(_dequantize_kernel, blocks, out, *weight, out, *sizes, BITS=bits, GROUP=a.group, **_BLOCK)
    return out


def linear_groups_cuda(a: LinearGroupsArguments) -> Tensor:
    if a.int8:
        return linear_groups_reference(a)
    m = a.x.shape[:-1].numel()
    if m > _FEW:
        return _decoded_product(a)
    out = torch.empty((*a.x.shape[:-1], a.out_features), dtype=a.x.dtype, device=a.x.device)
    if out.numel():
        high, wide, bits, _ = a.codes.shape
        weight = (a.codes.contiguous(), a.scale.contiguous(), None if a.zero is None else a.zero.contiguous())
        tensors = (a.x.contiguous(), *weight, None if a.bias is None else a.bias.contiguous(), out)
        sizes = (a.out_features, a.x.shape[-1], wide, a.scale.shape[1])
        launch(_vector_kernel, m * high, out, *tensors, *sizes, BITS=bits, GROUP=a.group, TILES=_TILES[bits])
    return out


def _decoded_product(a: LinearGroupsArguments) -> Tensor:
    x = a.x.float()
    y = torch.empty((*x.shape[:-1], a.out_features), dtype=torch.float32, device=x.device)
    for start in range(0, a.out_features, _AT_ONCE):
        tiles, count = slice(start // ROWS, (start + _AT_ONCE) // ROWS), min(_AT_ONCE, a.out_features - start)
        some = (a.codes[tiles], a.scale[tiles], None if a.zero is None else a.zero[tiles])
        weight = dequantize_groups_cuda(DequantizeGroupsArguments(*some, a.group, count, x.shape[-1]))
        y[..., start : start + count] = x @ weight.t()
    return (y if a.bias is None else y + a.bias.float()).to(a.x.dtype)
