# SPDX-License-Identifier: Apache-2.0
"""Block codecs on CUDA, by Triton: what the block-wise ops and the optimizer step share, and quantization itself.

A code is found by its bin (bins.py) and one comparison with the exact border above it, or by a binary search over the
borders where a table has no bins, so that it is the nearest one bit for bit. Entries are looked up through shared
memory, where 32 lanes read 32 places at once. Reciprocals are correctly rounded, and `launch` forbids contraction.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.ops._triton import launch, tl, triton, widen
from bittern.ops.codebooks import boundaries
from bittern.ops.quantize_blockwise.arguments import QuantizeArguments
from bittern.ops.quantize_blockwise.bins import BINADES, fewest_bins
from bittern.ops.quantize_blockwise.per_table import PerTable

LARGEST: Any = tl.constexpr(3.4028234663852886e38)
LEAST: Any = tl.constexpr(1.1754943508222875e-38)
"""The smallest normal float32: a block whose absmax is smaller counts as zeros."""
LOG2_LEAST: Any = tl.constexpr(BINADES)
ENTRIES = 256
_TILE = 2048
"""Elements of one program."""


@triton.jit
def _mix(x: tl.tensor) -> tl.tensor:
    """A bijection of uint32, as in `bittern.ops._random`."""
    x = (x ^ (x >> 16)) * tl.full((), 0x7FEB352D, tl.uint32)
    x = (x ^ (x >> 15)) * tl.full((), 0x846CA68B, tl.uint32)
    return x ^ (x >> 16)


@triton.jit
def random32(seed: tl.tensor, index: tl.tensor) -> tl.tensor:
    """uint32: elements `index` (int64) of the stream of `seed` (int64), as in `bittern.ops._random`."""
    low = index.to(tl.uint32) + seed.to(tl.uint32)
    high = (index >> 32).to(tl.uint32) + (seed >> 32).to(tl.uint32)
    return _mix(_mix(low) ^ high)


@triton.jit
def narrow_bf16(x: tl.tensor) -> tl.tensor:
    """float32 to bfloat16, to nearest even, by its bits: the interpreter would cut them off."""
    bits = x.to(tl.uint32, bitcast=True)
    rounded = bits + ((bits >> 16) & 1) + 0x7FFF
    kept = tl.where(x != x, bits | 0x400000, rounded) >> 16
    return kept.to(tl.uint16).to(tl.bfloat16, bitcast=True)


@triton.jit
def narrow(x: tl.tensor, like: tl.constexpr) -> tl.tensor:
    """float32 rounded to the type `like`."""
    if like == tl.bfloat16:
        return narrow_bf16(x)
    else:
        return x.to(like)


@triton.jit
def block_absmax(x: tl.tensor) -> tl.tensor:
    """Largest finite magnitude of each row; 0 for rows that count as zeros."""
    magnitude = tl.abs(x)
    largest = tl.max(tl.where(magnitude <= LARGEST, magnitude, 0.0), axis=1)
    return tl.where(largest >= LEAST, largest, 0.0)


@triton.jit
def inverse_of(absmax: tl.tensor) -> tl.tensor:
    """1 / absmax, correctly rounded; 0 for 0."""
    there = absmax > 0
    return tl.where(there, tl.div_rn(tl.full(absmax.shape, 1.0, tl.float32), tl.where(there, absmax, 1.0)), 0.0)


@triton.jit
def look_up(table: tl.tensor, index: tl.tensor, BITS: tl.constexpr) -> tl.tensor:
    """table[index] for int32 indices below 2**BITS."""
    entries = tl.load(table + tl.arange(0, 1 << BITS))
    return tl.reshape(tl.gather(entries, tl.reshape(index, (index.numel,)), 0), index.shape)


@triton.jit
def _count_reached(y: tl.tensor, table: tl.tensor, BITS: tl.constexpr) -> tl.tensor:
    """int32: how many of the first 2**BITS - 1 entries y reaches; table does not decrease and ends in NaN."""
    count = tl.zeros(y.shape, dtype=tl.int32)
    for k in tl.static_range(BITS):
        next = count + (1 << (BITS - 1 - k))
        count = tl.where(y >= tl.load(table + next - 1), next, count)
    return count


@triton.jit
def nearest(
    y: tl.tensor, borders: tl.tensor, codes_of_bins: tl.tensor, BITS: tl.constexpr, MANTISSA: tl.constexpr
) -> tl.tensor:
    """int32: how many borders y reaches, y not NaN; MANTISSA: that of the bins, 0 where there are none."""
    if MANTISSA == 0:
        return _count_reached(y, borders, BITS)
    else:
        word = y.to(tl.int32, bitcast=True)
        most: tl.constexpr = LOG2_LEAST << MANTISSA
        place = ((word & 0x7FFFFFFF) >> (23 - MANTISSA)) - ((127 - LOG2_LEAST) << MANTISSA)
        place = tl.minimum(tl.maximum(place, 0), most)
        below = tl.load(codes_of_bins + tl.where(word < 0, place + (most + 1), place)).to(tl.int32)
        return below + (y >= look_up(borders, below, BITS)).to(tl.int32)


@triton.jit
def by_chance(y: tl.tensor, values: tl.tensor, last: tl.tensor, u: tl.tensor, BITS: tl.constexpr) -> tl.tensor:
    """Of the neighbours of y the upper one with the probability of its share; u: uniform in [0, 1)."""
    below = _count_reached(y, values + 1, BITS)
    above = tl.minimum(below + 1, last)
    low, high = tl.load(values + below), tl.load(values + above)
    return tl.where(u * (high - low) < y - low, above, below)


@triton.jit(do_not_specialize=["n", "last", "seed"])
def _quantize_kernel(
    x: tl.tensor,
    values: tl.tensor,
    borders: tl.tensor,
    codes_of_bins: tl.tensor,
    codes: tl.tensor,
    absmax: tl.tensor,
    n: tl.tensor,
    last: tl.tensor,
    seed: tl.tensor,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    NIBBLES: tl.constexpr,
    KEEP: tl.constexpr,
    CHANCE: tl.constexpr,
    MANTISSA: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    index = row[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    number = widen(tl.load(x + index, mask=index < n, other=0.0))
    largest = block_absmax(number)
    tl.store(absmax + row, largest, mask=row * BLOCK < n)
    inverse = inverse_of(largest)[:, None]
    y = tl.where((inverse == 0) | (number != number), 0.0, number * inverse)
    BITS: tl.constexpr = 4 if NIBBLES else 8
    if CHANCE:
        u = (random32(seed.to(tl.int64), index) >> 8).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08
        code = by_chance(y, values, last, u, BITS)
    else:
        code = nearest(y, borders, codes_of_bins, BITS, MANTISSA)
    if KEEP:
        code = tl.where((y > 0) & (code == 0), 1, code)
    if NIBBLES:
        first, second = tl.split(tl.reshape(tl.where(index < n, code, 0), (ROWS, BLOCK // 2, 2)))
        pair = row[:, None] * (BLOCK // 2) + tl.arange(0, BLOCK // 2)[None, :]
        tl.store(codes + pair, (first * 16 + second).to(tl.uint8), mask=pair * 2 < n)
    else:
        tl.store(codes + index, code.to(tl.uint8), mask=index < n)


class Tables(NamedTuple):
    """A code table as the kernels read it, on its device."""

    values: Tensor
    """float32 [256], 0 behind the entries."""
    ascending: Tensor
    """The same with NaN behind the entries."""
    borders: Tensor
    """float32 [256]: entry i is the border between codes i and i + 1; NaN where there is none."""
    codes_of_bins: Tensor
    """uint8, see bins.py."""
    mantissa: int
    """Bits of the bins; 0: there are none, because two borders lie too close together."""


def tables_of(code: Tensor) -> Tables:
    """The tables of a code, on its device, which this waits for."""
    codes_of_bins, mantissa = fewest_bins(code)
    nan = float("nan")
    rows = (_padded(code, 0.0), _padded(code, nan), _padded(boundaries(code), nan))
    return Tables(*rows, codes_of_bins.flatten().to(code.device), mantissa)


def _padded(entries: Tensor, fill: float) -> Tensor:
    return torch.cat([entries, entries.new_full((ENTRIES - len(entries),), fill)])


known_tables = PerTable(tables_of)


def _quantize(a: QuantizeArguments, codes: Tensor, nibbles: bool) -> Tensor:
    x, code, block_size, keep_nonzero, seed = a
    n = x.numel()
    absmax = torch.empty(a.blocks, dtype=torch.float32, device=x.device)
    if n:
        rows = max(1, _TILE // block_size)
        tables = known_tables(code)
        launch(
            _quantize_kernel,
            triton.cdiv(len(absmax), rows),
            codes,
            x.contiguous(),
            tables.ascending,
            tables.borders,
            tables.codes_of_bins,
            codes,
            absmax,
            n,
            len(code) - 1,
            signed64(seed or 0),
            BLOCK=block_size,
            ROWS=rows,
            NIBBLES=nibbles,
            KEEP=keep_nonzero,
            CHANCE=seed is not None,
            MANTISSA=tables.mantissa,
        )
    return absmax


def signed64(seed: int) -> int:
    """The 64 bits of a seed as a signed number."""
    return (seed + 2**63) % 2**64 - 2**63


def quantize_blockwise_cuda(a: QuantizeArguments) -> tuple[Tensor, Tensor]:
    codes = torch.empty(a.x.shape, dtype=torch.uint8, device=a.x.device)
    return codes, _quantize(a, codes, nibbles=False)


def quantize_4bit_cuda(a: QuantizeArguments) -> tuple[Tensor, Tensor]:
    packed = torch.empty(a.pairs, dtype=torch.uint8, device=a.x.device)
    return packed, _quantize(a, packed, nibbles=True)
