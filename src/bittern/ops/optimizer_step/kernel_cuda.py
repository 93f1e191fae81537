# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels of `optimizer_step`: one launch steps the blocks of many tensors.

Pointers and sizes of all tensors lie in one table, a row of WORDS numbers each, as on the CPU. A task is a tensor,
a row of it and a block of that row; a program works on this block and the ROWS - 1 behind it, as far as the row goes.
It decodes them, applies the rule, finds the new absmax, encodes.

ALIGNED promises addresses of 16 bytes and rows of 8 elements, so that a thread moves 16 bytes at once.
"""

from __future__ import annotations

from typing import Any

from bittern.ops._triton import tl, triton, widen
from bittern.ops.optimizer_step.layout import WORD, WORDS
from bittern.ops.optimizer_step.log_codes_cuda import (
    chance_of,
    decode_ratios,
    decode_squares,
    encode_ratios,
    encode_squares,
    ratio_level,
)
from bittern.ops.optimizer_step.random_squares import LARGEST_FROM
from bittern.ops.optimizer_step.rules_cuda import LAMB, apply_rule, lamb_direction, trust_ratio
from bittern.ops.quantize_blockwise.cuda import (
    LARGEST,
    block_absmax,
    by_chance,
    inverse_of,
    look_up,
    narrow,
    narrow_bf16,
    nearest,
    random32,
)

WIDTH: Any = tl.constexpr(WORDS)
PARAMETER: Any = tl.constexpr(WORD["param"])
GRADIENT: Any = tl.constexpr(WORD["grad"])
STATE: Any = tl.constexpr(WORD["state"])
ABSMAX: Any = tl.constexpr(WORD["absmax"])
COMPENSATION: Any = tl.constexpr(WORD["compensation"])
ROW: Any = tl.constexpr(WORD["row"])
SCALARS: Any = tl.constexpr(WORD["scalars"])
FIRST: Any = tl.constexpr(WORD["first"])
TASK: Any = tl.constexpr(3)
LARGEST_SQUARE_FROM: Any = tl.constexpr(LARGEST_FROM)


@triton.jit
def _finite(x: tl.tensor) -> tl.tensor:
    return tl.abs(x) <= LARGEST


@triton.jit
def _pointer(entry, TYPE: tl.constexpr, ALIGNED: tl.constexpr):  # type: ignore[no-untyped-def]
    pointer = tl.load(entry).to(tl.pointer_type(TYPE))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _tile(entry, task, BLOCK: tl.constexpr, ROWS: tl.constexpr, ALIGNED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Blocks [ROWS], which of them there are, their byte offsets in 4 bits; elements [ROWS, BLOCK], which there are."""
    row_length, row = tl.load(entry + ROW), tl.load(task + 1)
    per_row = (row_length + BLOCK - 1) // BLOCK
    place = tl.load(task + 2) + tl.arange(0, ROWS).to(tl.int64)
    start, nibble = row * row_length + place * BLOCK, row * ((row_length + 1) // 2) + place * (BLOCK // 2)
    if ALIGNED:
        row_length, start, nibble = tl.multiple_of(row_length, 8), tl.multiple_of(start, 8), tl.multiple_of(nibble, 4)
    left = tl.minimum(row_length - place * BLOCK, BLOCK).to(tl.int32)
    lane = tl.arange(0, BLOCK)
    return row * per_row + place, left > 0, nibble, start[:, None] + lane[None, :], lane[None, :] < left[:, None]


@triton.jit
def _pairs(nibble, at, inside):  # type: ignore[no-untyped-def]
    """Bytes of two codes: their offsets, and which of them there are."""
    HALF: tl.constexpr = at.shape[1] // 2
    there, _ = tl.split(tl.reshape(inside.to(tl.int32), (at.shape[0], HALF, 2)))
    return nibble[:, None] + tl.arange(0, HALF)[None, :], there > 0


@triton.jit
def _scale(entry, K: tl.constexpr, block, there):  # type: ignore[no-untyped-def]
    return tl.load(_pointer(entry + ABSMAX + K, tl.float32, False) + block, mask=there, other=0.0)


@triton.jit
def _load_state(  # type: ignore[no-untyped-def]
    entry, K: tl.constexpr, tables, block, there, nibble, at, inside,
    SIGNED: tl.constexpr, RELATIVE: tl.constexpr, SLOW: tl.constexpr, EXACT: tl.constexpr, LOGARITHMIC: tl.constexpr,
    BITS: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Float32 numbers; of ratios the levels, which `_behind` makes means."""
    if BITS == 32 or (EXACT >> K) & 1:
        return tl.load(_pointer(entry + STATE + K, tl.float32, ALIGNED) + at, mask=inside, other=0.0)
    else:
        codes = _pointer(entry + STATE + K, tl.uint8, ALIGNED)
        if BITS == 8 or (SLOW >> K) & 1:
            code = tl.load(codes + at, mask=inside, other=0).to(tl.int32)
        else:
            pair, present = _pairs(nibble, at, inside)
            two = tl.load(codes + pair, mask=present, other=0).to(tl.int32)
            code = tl.reshape(tl.join(two >> 4, two & 15), at.shape)
        if LOGARITHMIC and not (SIGNED >> K) & 1:
            levels = _pointer(entry + ABSMAX + K, tl.int32, False) + 2 * block
            most, lowest = tl.load(levels, mask=there, other=0), tl.load(levels + 1, mask=there, other=0)
            return decode_squares(code, most, lowest)
        elif (RELATIVE >> K) & 1:
            return ratio_level(code)
        elif (SLOW >> K) & 1:
            return look_up(tables + 512, code, 8) * _scale(entry, K, block, there)[:, None]
        else:
            values = tables if (SIGNED >> K) & 1 else tables + 512
            return look_up(values, code, BITS) * _scale(entry, K, block, there)[:, None]


@triton.jit
def _behind(  # type: ignore[no-untyped-def]
    entry, K: tl.constexpr, s, square, block, there, SIGNED: tl.constexpr, RELATIVE: tl.constexpr
):
    """State K as it is where the square of the same element is not 0, and 0 where it is."""
    if (RELATIVE >> K) & 1:
        s = decode_ratios(s, _scale(entry, K, block, there), square)
    return tl.where(square == 0, 0.0, s) if (SIGNED >> K) & 1 else s


@triton.jit
def _store_codes(codes, code, nibble, at, inside, BYTES: tl.constexpr):  # type: ignore[no-untyped-def]
    if BYTES:
        tl.store(codes + at, code.to(tl.uint8), mask=inside)
    else:
        first, second = tl.split(tl.reshape(tl.where(inside, code, 0), (at.shape[0], at.shape[1] // 2, 2)))
        pair, present = _pairs(nibble, at, inside)
        tl.store(codes + pair, (first * 16 + second).to(tl.uint8), mask=present)


@triton.jit
def _square_at_random(y, values, chance):  # type: ignore[no-untyped-def]
    """random_squares.py; values: the unsigned tree."""
    code = tl.where(y < LARGEST_SQUARE_FROM, by_chance(y, values, 255, chance, 8), 255)
    return tl.where((y > 0) & (code == 0), 1, code)


@triton.jit
def _encode_by_table(  # type: ignore[no-untyped-def]
    y, chance, tables, bins, SIGN: tl.constexpr, SLOW: tl.constexpr, AT_RANDOM: tl.constexpr, BITS: tl.constexpr,
    MANTISSA: tl.constexpr, OTHER_MANTISSA: tl.constexpr, OTHER_BINS: tl.constexpr,
):  # fmt: skip
    if SLOW:
        return nearest(y, tables + 768, bins + OTHER_BINS, 8, OTHER_MANTISSA)
    elif AT_RANDOM and BITS == 4:  # squares have codes of their own
        return by_chance(y, tables, (1 << BITS) - 1, chance, BITS)
    elif AT_RANDOM and not SIGN:
        return _square_at_random(y, tables + 512, chance)
    elif SIGN:
        return nearest(y, tables + 256, bins, BITS, MANTISSA)
    else:
        code = nearest(y, tables + 768, bins + OTHER_BINS, BITS, OTHER_MANTISSA)
        return tl.where((y > 0) & (code == 0), 1, code) if BITS == 8 else code


@triton.jit
def _store_state(  # type: ignore[no-untyped-def]
    entry, K: tl.constexpr, x, square, seed, tables, bins, block, there, nibble, at, inside,
    SIGNED: tl.constexpr, RELATIVE: tl.constexpr, SLOW: tl.constexpr, EXACT: tl.constexpr,
    LOGARITHMIC: tl.constexpr, AT_RANDOM: tl.constexpr, BITS: tl.constexpr, ALIGNED: tl.constexpr,
    MANTISSA: tl.constexpr, OTHER_MANTISSA: tl.constexpr, OTHER_BINS: tl.constexpr,
):  # fmt: skip
    """square: what ratios are relative to; seed: of the draws of states AT_RANDOM."""
    if BITS == 32 or (EXACT >> K) & 1:
        tl.store(_pointer(entry + STATE + K, tl.float32, ALIGNED) + at, x, mask=inside)
    else:
        x = tl.where(inside, x, 0.0)
        chance = x
        if AT_RANDOM:
            chance = chance_of(seed, K, at)
        if LOGARITHMIC and not (SIGNED >> K) & 1:
            code, most, lowest = encode_squares(x, chance)
            levels = _pointer(entry + ABSMAX + K, tl.int32, False) + 2 * block
            tl.store(levels, most, mask=there)
            tl.store(levels + 1, lowest, mask=there)
        else:
            if (RELATIVE >> K) & 1:
                code, largest = encode_ratios(x, square, chance)
            else:
                largest = block_absmax(x)
                code = _encode_by_table(
                    x * inverse_of(largest)[:, None], chance, tables, bins, (SIGNED >> K) & 1, (SLOW >> K) & 1,
                    AT_RANDOM, BITS, MANTISSA, OTHER_MANTISSA, OTHER_BINS,
                )  # fmt: skip
            tl.store(_pointer(entry + ABSMAX + K, tl.float32, False) + block, largest, mask=there)
        codes = _pointer(entry + STATE + K, tl.uint8, ALIGNED)
        _store_codes(codes, code, nibble, at, inside, BITS == 8 or (SLOW >> K) & 1)


@triton.jit
def _store_param(  # type: ignore[no-untyped-def]
    entry, x, at, inside, seed,
    PARAM: tl.constexpr, ALIGNED: tl.constexpr, KAHAN: tl.constexpr, CHANCE: tl.constexpr,
):  # fmt: skip
    param = _pointer(entry + PARAMETER, PARAM, ALIGNED)
    if KAHAN and tl.float32 != PARAM:
        lost = _pointer(entry + COMPENSATION, PARAM, ALIGNED)
        total = x + widen(tl.load(lost + at, mask=inside, other=0.0))
        rounded = narrow(total, PARAM)
        tl.store(param + at, rounded, mask=inside)
        tl.store(lost + at, narrow(total - widen(rounded), PARAM), mask=inside)
    elif CHANCE and tl.bfloat16 == PARAM:
        random = random32(seed.to(tl.int64), tl.load(entry + FIRST) + at) & 0xFFFF
        up = ((x.to(tl.uint32, bitcast=True) + random) >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
        tl.store(param + at, tl.where(_finite(x), up, narrow_bf16(x)), mask=inside)
    else:
        tl.store(param + at, narrow(x, PARAM), mask=inside)


@triton.jit
def _load_all(  # type: ignore[no-untyped-def]
    entry, c, tables, block, there, nibble, at, inside,
    STATES: tl.constexpr, SIGNED: tl.constexpr, GATE: tl.constexpr, RELATIVE: tl.constexpr, SLOW: tl.constexpr,
    EXACT: tl.constexpr, LOGARITHMIC: tl.constexpr, BITS: tl.constexpr,
    PARAM: tl.constexpr, GRAD: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Parameter, gradient (0 where it is not finite), where it is finite, and the states behind their gate."""
    p = widen(tl.load(_pointer(entry + PARAMETER, PARAM, ALIGNED) + at, mask=inside, other=0.0))
    g = widen(tl.load(_pointer(entry + GRADIENT, GRAD, ALIGNED) + at, mask=inside, other=0.0)) * tl.load(c)
    usable = _finite(g)
    s0 = tl.zeros(p.shape, tl.float32)
    s1, s2, s3 = s0, s0, s0
    if STATES > 0:
        s0 = _load_state(
            entry, 0, tables, block, there, nibble, at, inside,
            SIGNED, RELATIVE, SLOW, EXACT, LOGARITHMIC, BITS, ALIGNED,
        )  # fmt: skip
    if STATES > 1:
        s1 = _load_state(
            entry, 1, tables, block, there, nibble, at, inside,
            SIGNED, RELATIVE, SLOW, EXACT, LOGARITHMIC, BITS, ALIGNED,
        )  # fmt: skip
    if STATES > 2:
        s2 = _load_state(
            entry, 2, tables, block, there, nibble, at, inside,
            SIGNED, RELATIVE, SLOW, EXACT, LOGARITHMIC, BITS, ALIGNED,
        )  # fmt: skip
    if STATES > 3:
        s3 = _load_state(
            entry, 3, tables, block, there, nibble, at, inside,
            SIGNED, RELATIVE, SLOW, EXACT, LOGARITHMIC, BITS, ALIGNED,
        )  # fmt: skip
    if BITS < 32 and GATE >= 0:
        square = s0 if GATE == 0 else s1 if GATE == 1 else s2
        s0 = _behind(entry, 0, s0, square, block, there, SIGNED, RELATIVE)
        s1 = _behind(entry, 1, s1, square, block, there, SIGNED, RELATIVE)
        s2 = _behind(entry, 2, s2, square, block, there, SIGNED, RELATIVE)
        s3 = _behind(entry, 3, s3, square, block, there, SIGNED, RELATIVE)
    return p, tl.where(usable, g, 0.0), usable, s0, s1, s2, s3


@triton.jit(do_not_specialize=["columns", "seed", "own_seed"])
def step_kernel(  # type: ignore[no-untyped-def]
    table, tasks, scalars, tables, bins, ratios, seeds, columns, own_seed, seed,
    RULE: tl.constexpr, STATES: tl.constexpr, SIGNED: tl.constexpr, GATE: tl.constexpr,
    RELATIVE: tl.constexpr, SLOW: tl.constexpr, EXACT: tl.constexpr, LOGARITHMIC: tl.constexpr,
    AT_RANDOM: tl.constexpr, BITS: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr, ALIGNED: tl.constexpr,
    MANTISSA: tl.constexpr, OTHER_MANTISSA: tl.constexpr, OTHER_BINS: tl.constexpr,
    KAHAN: tl.constexpr, CHANCE: tl.constexpr,
):  # fmt: skip
    """tables: float32 [4, 256], values and borders of the signed states, then of the squares; bins: likewise.

    LOGARITHMIC: states are those of log_codes.py, and the second tables are those of SLOW states. AT_RANDOM: either
    that, or squares of 8 bits are those of random_squares.py. seeds: int64, of each tensor (own_seed 1) or of all
    (own_seed 0); seed: of the parameters.
    """
    task = tasks + tl.program_id(0).to(tl.int64) * TASK
    tensor = tl.load(task)
    entry = table + tensor * WIDTH
    c = scalars + tl.load(entry + SCALARS) * columns
    block, there, nibble, at, inside = _tile(entry, task, BLOCK, ROWS, ALIGNED)
    p, g, usable, s0, s1, s2, s3 = _load_all(
        entry, c, tables, block, there, nibble, at, inside,
        STATES, SIGNED, GATE, RELATIVE, SLOW, EXACT, LOGARITHMIC, BITS, PARAM, GRAD, ALIGNED,
    )  # fmt: skip
    new, n0, n1, n2, n3 = apply_rule(p, g, s0, s1, s2, s3, c, tl.load(ratios + tensor), RULE)
    usable = usable & _finite(n0) & _finite(n1) & _finite(n2) & _finite(n3)
    _store_param(entry, tl.where(usable, new, p), at, inside, seed, PARAM, ALIGNED, KAHAN, CHANCE)
    n0, n1 = tl.where(usable, n0, s0), tl.where(usable, n1, s1)
    n2, n3 = tl.where(usable, n2, s2), tl.where(usable, n3, s3)
    square = n0 if GATE == 0 else n1 if GATE == 1 else n2
    draws = tl.load(seeds + tensor * own_seed) if AT_RANDOM else tensor
    if STATES > 0:
        _store_state(
            entry, 0, n0, square, draws, tables, bins, block, there, nibble, at, inside,
            SIGNED, RELATIVE, SLOW, EXACT, LOGARITHMIC, AT_RANDOM, BITS, ALIGNED,
            MANTISSA, OTHER_MANTISSA, OTHER_BINS,
        )  # fmt: skip
    if STATES > 1:
        _store_state(
            entry, 1, n1, square, draws, tables, bins, block, there, nibble, at, inside,
            SIGNED, RELATIVE, SLOW, EXACT, LOGARITHMIC, AT_RANDOM, BITS, ALIGNED,
            MANTISSA, OTHER_MANTISSA, OTHER_BINS,
        )  # fmt: skip
    if STATES > 2:
        _store_state(
            entry, 2, n2, square, draws, tables, bins, block, there, nibble, at, inside,
            SIGNED, RELATIVE, SLOW, EXACT, LOGARITHMIC, AT_RANDOM, BITS, ALIGNED,
            MANTISSA, OTHER_MANTISSA, OTHER_BINS,
        )  # fmt: skip
    if STATES > 3:
        _store_state(
            entry, 3, n3, square, draws, tables, bins, block, there, nibble, at, inside,
            SIGNED, RELATIVE, SLOW, EXACT, LOGARITHMIC, AT_RANDOM, BITS, ALIGNED,
            MANTISSA, OTHER_MANTISSA, OTHER_BINS,
        )  # fmt: skip


@triton.jit(do_not_specialize=["columns"])
def measure_kernel(  # type: ignore[no-untyped-def]
    table, tasks, scalars, tables, squares, columns,
    RULE: tl.constexpr, STATES: tl.constexpr, SIGNED: tl.constexpr, GATE: tl.constexpr,
    RELATIVE: tl.constexpr, SLOW: tl.constexpr, EXACT: tl.constexpr, LOGARITHMIC: tl.constexpr,
    AT_RANDOM: tl.constexpr, BITS: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Sums of squares of one task, for rules with a trust ratio: squares float64 [tasks, 2], parameter, direction."""
    number = tl.program_id(0).to(tl.int64)
    task = tasks + number * TASK
    entry = table + tl.load(task) * WIDTH
    c = scalars + tl.load(entry + SCALARS) * columns
    block, there, nibble, at, inside = _tile(entry, task, BLOCK, ROWS, ALIGNED)
    p, g, usable, s0, s1, _, _ = _load_all(
        entry, c, tables, block, there, nibble, at, inside,
        STATES, SIGNED, GATE, RELATIVE, SLOW, EXACT, LOGARITHMIC, BITS, PARAM, GRAD, ALIGNED,
    )  # fmt: skip
    direction = g
    if RULE == LAMB:
        direction, n0, n1 = lamb_direction(p, g, s0, s1, c)
        usable = usable & _finite(n0) & _finite(n1)
    wide = tl.where(usable & inside, direction, 0.0).to(tl.float64)
    tl.store(squares + number * 2, tl.sum(tl.sum(p.to(tl.float64) * p.to(tl.float64), axis=1), axis=0))
    tl.store(squares + number * 2 + 1, tl.sum(tl.sum(wide * wide, axis=1), axis=0))


@triton.jit(do_not_specialize=["columns"])
def ratio_kernel(  # type: ignore[no-untyped-def]
    table, first_task, scalars, squares, ratios, columns, RULE: tl.constexpr, CHUNK: tl.constexpr
):
    """The trust ratio of one tensor from its tasks [first_task[i], first_task[i + 1]), added in one fixed order.

    A tensor without tasks here is of another kind, whose own launch writes its ratio.
    """
    tensor = tl.program_id(0).to(tl.int64)
    first, end = tl.load(first_task + tensor), tl.load(first_task + tensor + 1)
    param = tl.zeros((CHUNK,), tl.float64)
    direction = tl.zeros((CHUNK,), tl.float64)
    for start in range(first, end, CHUNK):
        task = start + tl.arange(0, CHUNK)
        param += tl.load(squares + task * 2, mask=task < end, other=0.0)
        direction += tl.load(squares + task * 2 + 1, mask=task < end, other=0.0)
    c = scalars + tl.load(table + tensor * WIDTH + SCALARS) * columns
    p_norm = tl.sqrt(tl.sum(param, axis=0)).to(tl.float32)
    norm = tl.sqrt(tl.sum(direction, axis=0)).to(tl.float32)
    tl.store(ratios + tensor, trust_ratio(p_norm, norm, c, RULE), mask=end > first)
