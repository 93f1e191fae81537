# SPDX-License-Identifier: Apache-2.0
"""The codes of log_codes.py in Triton, bit for bit: tiles [ROWS, BLOCK] of elements, [ROWS] of what a block stores.

Levels are worked out from their code, not looked up: a level is a multiple of a block's step away from its largest.
"""

from __future__ import annotations

from typing import Any

from bittern.ops._triton import tl, triton
from bittern.ops.optimizer_step import log_codes
from bittern.ops.optimizer_step.layout import DRAW
from bittern.ops.quantize_blockwise.cuda import random32, signed64

LEVELS: Any = tl.constexpr(log_codes.LEVELS)
LARGEST_RATIO: Any = tl.constexpr(float(log_codes.LARGEST_RATIO))
LEAST_BITS: Any = tl.constexpr(log_codes.LEAST_BITS)
LEAST_STEP: Any = tl.constexpr(log_codes.LEAST_STEP)
MOST_STEP: Any = tl.constexpr(log_codes.MOST_STEP)
BEND: Any = tl.constexpr(log_codes.BEND)
LEAST_RATIO: Any = tl.constexpr(log_codes.LEAST_RATIO)
MOST_RATIO: Any = tl.constexpr(log_codes.MOST_RATIO)
NEXT_DRAW: Any = tl.constexpr(signed64(DRAW))
UNIT_16: Any = tl.constexpr(2.0**-16)


@triton.jit
def chance_of(seed, K: tl.constexpr, index):  # type: ignore[no-untyped-def]
    """U of state K in [0, 1): 16 bits of the draw that it shares with a neighbour; index: within the tensor."""
    bits = random32(seed + (K // 2) * NEXT_DRAW, index) >> (16 * (K % 2))
    return (bits & 0xFFFF).to(tl.int32).to(tl.float32) * UNIT_16


@triton.jit
def _floor(x):  # type: ignore[no-untyped-def]
    """Largest whole number at most x, |x| below 2^31; tl.floor takes -1e-40 for 0."""
    cut = x.to(tl.int32)
    return cut - (cut.to(tl.float32) > x).to(tl.int32)


@triton.jit
def decode_squares(code, most, lowest):  # type: ignore[no-untyped-def]
    """most, lowest: int32, bits of a block's largest and of its lowest level."""
    step = (most - lowest) // (LEVELS - 1)
    bits = tl.maximum(most[:, None] - (LEVELS - code) * step[:, None], LEAST_BITS)
    return tl.where(code > 0, bits.to(tl.float32, bitcast=True), 0.0)


@triton.jit
def encode_squares(v, chance):  # type: ignore[no-untyped-def]
    """Codes, bits of the largest, bits of the lowest level."""
    bits = v.to(tl.int32, bitcast=True)
    there = bits >= LEAST_BITS
    most = tl.max(tl.where(there, bits, 0), axis=1)
    least = tl.min(tl.where(there, bits, most[:, None]), axis=1)
    step = tl.minimum(tl.maximum((most - least) // (LEVELS - 1), LEAST_STEP), MOST_STEP)
    lowest = most - (LEVELS - 1) * step
    width = step.to(tl.float32)
    inverse = tl.div_rn(tl.full(width.shape, 1.0, tl.float32), width)
    place = (bits - lowest[:, None]).to(tl.float32) * inverse[:, None]
    below = _floor(place)
    rest = place - below.to(tl.float32)
    up = chance < rest - (width * BEND)[:, None] * (rest * (1.0 - rest))
    level = tl.minimum(tl.maximum(below + up.to(tl.int32), 0), LEVELS - 1)
    return tl.where(there, level + 1, 0), most, tl.where(most > 0, lowest, 0)


@triton.jit
def ratio_level(code):  # type: ignore[no-untyped-def]
    """The number of a ratio's level, -7 to 7, as float32."""
    return ((code ^ 8) - 8).to(tl.float32)


@triton.jit
def decode_ratios(level, largest, v):  # type: ignore[no-untyped-def]
    """v: the decoded squares."""
    unit = tl.div_rn(largest, tl.full(largest.shape, LARGEST_RATIO, tl.float32))
    return level * (unit[:, None] * tl.sqrt_rn(v))


@triton.jit
def encode_ratios(m, v, chance):  # type: ignore[no-untyped-def]
    """v: the squares before they are rounded. Codes, largest ratio."""
    there = v.to(tl.int32, bitcast=True) >= LEAST_BITS
    ratio = tl.where(there, tl.div_rn(m, tl.sqrt_rn(tl.where(there, v, 1.0))), 0.0)
    largest = tl.minimum(tl.max(tl.abs(ratio), axis=1), MOST_RATIO)
    kept = largest >= LEAST_RATIO
    largest = tl.where(kept, largest, 0.0)
    inverse = tl.div_rn(tl.full(largest.shape, LARGEST_RATIO, tl.float32), tl.where(kept, largest, 1.0))
    place = tl.minimum(tl.maximum(ratio * inverse[:, None], -LARGEST_RATIO), LARGEST_RATIO)
    level = _floor(place + chance)
    return tl.where(kept[:, None], level & 15, 0), largest
