# SPDX-License-Identifier: Apache-2.0
"""Code tables for block-wise quantization: the only copy of every table.

A table is a float32 tensor on the CPU whose entries do not decrease; a code is an index into it. `quantize_blockwise`
divides a block by its largest magnitude and stores the index of the nearest entry.

Dynamic tree, 8 bits, signed: sign bit, a run of E = 0 .. 6 zeros (the decade 10^-E), an indicator bit 1, and 6 - E bits
of a linear fraction. The 2^(6-E) fractions of a decade are the mid-points of equal parts of [0.1, 1]: each decade has
twice the levels of the one below it. Two patterns without indicator stand for 0 and +1. Unsigned: no sign bit, one more
bit of fraction.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

_NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Quantiles of the normal distribution, scaled to [-1, 1] (QLoRA, arXiv:2305.14314, appendix E)."""

_FP4_TWELFTHS = (0.0, 0.0625, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0)
"""Magnitudes of the 4-bit float of bitsandbytes, in twelfths."""

FP4_PATTERN = (8, 9, 14, 15, 12, 13, 10, 11, 7, 6, 1, 0, 3, 2, 5, 4)
"""FP4_PATTERN[b] is the index into `fp4()` of the value that bitsandbytes stores as the bits b (sign, then e e e)."""

_FP8 = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2}


def _float32(value: float) -> float:
    return float(np.float32(value))


def _check_bits(name: str, bits: int) -> None:
    if not 2 <= bits <= 8:
        raise ValueError(f"{name}: bits must be 2 to 8; got {bits}")


def _decade(parts: int, scale: float) -> list[float]:
    """Mid-points of `parts` equal parts of [0.1, 1] times `scale`, with the roundings of the published table.

    Each border is one fma in float32, from the nearer end; the float64 sum rounds to the same float32.
    """
    first, step = _float32(0.1), _float32(_float32(1.0 - _float32(0.1)) / parts)
    borders = [
        _float32(first + step * i if i < (parts + 1) // 2 else 1.0 - step * (parts - i)) for i in range(parts + 1)
    ]
    middles = [_float32(a + b) / 2 for a, b in pairwise(borders)]
    return [_float32(middle * _float32(scale)) for middle in middles]


def dynamic_tree(signed: bool = True, bits: int = 8, *, symmetric: bool = False) -> Tensor:
    """Dynamic tree map, [2**bits] float32: entries from about 1e-6 to 1 in decades, the finest near 1.

    Level j of L in decade E: 10^-E (0.1 + 0.9 (2j + 1) / (2L)); for 8 bits L = 2^(6-E) signed, 2^(7-E) unsigned, E < 7.
    Then 0 and +1 are added. The published signed map has no -1; `symmetric` gives it one: the smallest pair of levels
    gives way to -1 and a second +1 (which is never chosen), so that code(-x) = -code(x).
    Errors: ValueError for bits outside 2..8, or symmetric with signed=False.
    Reference: Dettmers, 8-bit approximations (arXiv:1511.04561); 8-bit optimizers (arXiv:2110.02861).
    """
    _check_bits("dynamic_tree", bits)
    if symmetric and not signed:
        raise ValueError("dynamic_tree: symmetric=True needs signed=True; got signed=False; leave symmetric out")
    return torch.tensor(tree_entries(signed, bits, symmetric), dtype=torch.float32)


@cache
def tree_entries(signed: bool, bits: int, symmetric: bool) -> tuple[float, ...]:
    """Once a process: a layer asks for its table at every call, and a trace writes down every operator of torch."""
    decades = bits - 1
    levels: list[float] = []
    for i in range(decades):
        levels += _decade(2**i if signed else 2 ** (i + 1), 10.0 ** (i - (decades - 1)))
    extra = [0.0, 1.0]
    if symmetric:
        levels, extra = levels[1:], [-1.0, 0.0, 1.0, 1.0]
    entries = levels + [-level for level in levels] if signed else levels
    return tuple(sorted(entries + extra))


def linear(signed: bool = True, bits: int = 8, *, zero: bool = True) -> Tensor:
    """Equally spaced entries, [2**bits] float32, from -1 (0 if unsigned) to 1.

    Signed: 2**bits - 1 steps of the grid and 0 twice. zero=False, unsigned only: i / 2**bits for i = 1 .. 2**bits, the
    table of 4-bit second moments, which must not become 0 (arXiv:2309.01507).
    Errors: ValueError for bits outside 2..8, or zero=False with signed=True.
    """
    _check_bits("linear", bits)
    n = 2**bits
    if not zero:
        if signed:
            raise ValueError("linear: zero=False is for unsigned tables; pass signed=False")
        return torch.tensor([i / n for i in range(1, n + 1)], dtype=torch.float32)
    if not signed:
        return torch.tensor([i / (n - 1) for i in range(n)], dtype=torch.float32)
    half = n // 2 - 1
    return torch.tensor(sorted([i / half for i in range(-half, half + 1)] + [0.0]), dtype=torch.float32)


def quantile(samples: Tensor, bits: int = 8) -> Tensor:
    """Quantile map of a sample, [2**bits] float32: every entry is about equally often the nearest.

    With N = 2**bits - 1 and Q the sample's quantile function: q_j = (Q(j / (N + 1)) + Q((j + 1) / (N + 1))) / 2 for
    j = 0 .. N - 1, divided by the largest |q_j|; then 0 is added. samples: any shape of floats, all finite.
    Errors: ValueError for bits outside 2..8, no sample, a sample that is not finite, or samples that are all 0.
    Reference: arXiv:2110.02861, section 1.2.
    """
    _check_bits("quantile", bits)
    values = samples.detach().to("cpu", torch.float64).flatten()
    if not values.numel() or not values.isfinite().all():
        raise ValueError(f"quantile: samples must be finite numbers, at least one; got {list(samples.shape)}")
    ordered = values.sort().values
    places = torch.arange(2**bits, dtype=torch.float64) / 2**bits * (len(ordered) - 1)
    low = places.floor().long()
    high = (low + 1).clamp(max=len(ordered) - 1)
    marks = torch.lerp(ordered[low], ordered[high], places - low)
    entries = (marks[:-1] + marks[1:]) / 2
    largest = entries.abs().max()
    if largest == 0:
        raise ValueError("quantile: samples must not all be 0; got quantiles that are all 0")
    return torch.cat([entries / largest, torch.zeros(1, dtype=torch.float64)]).sort().values.float()


def fp8(format: Literal["e4m3", "e5m2"] = "e4m3") -> Tensor:
    """The finite values of an 8-bit float over its largest, [256] float32.

    Bit patterns without a finite value are filled up with -1 and +1, which are never chosen over the first of them.
    Errors: ValueError for another format.
    Reference: FP8 formats for deep learning (arXiv:2209.05433).
    """
    if format not in _FP8:
        raise ValueError(f"fp8: format must be 'e4m3' or 'e5m2'; got {format!r}")
    positive = torch.arange(128, dtype=torch.uint8).view(_FP8[format]).float()
    finite = positive[positive.isfinite()].double()
    scaled = torch.ones(128, dtype=torch.float64)
    scaled[: len(finite)] = finite / finite.max()
    return (torch.cat([-scaled.flip(0), scaled]) + 0.0).float()


def nf4() -> Tensor:
    """4-bit NormalFloat, [16] float32: entries with equal expected use for normally distributed weights.

    Reference: QLoRA (arXiv:2305.14314).
    """
    return torch.tensor(_NF4, dtype=torch.float32)


def fp4() -> Tensor:
    """The 4-bit float of bitsandbytes, sorted, [16] float32: (0, 1/16, 2, 3, 4, 6, 8, 12) / 12 and its negatives.

    0 is there twice; `FP4_PATTERN` maps the stored bits to this order.
    """
    positive = torch.tensor([twelfths / 12 for twelfths in _FP4_TWELFTHS], dtype=torch.float32)
    return torch.cat([0.0 - positive.flip(0), positive])


def boundaries(code: Tensor) -> Tensor:
    """Where the nearest entry changes, [n - 1] float32: the index of y is the number of boundaries b with y >= b.

    b is the smallest float32 on the upper side of the float64 mid-point M of two neighbours. The mid-point itself
    belongs to the entry nearer 0: to the lower one for M > 0 (so b > M), to the upper one for M <= 0 (so b >= M).
    """
    entries = code.double()
    middle = (entries[:-1] + entries[1:]) / 2
    rounded = middle.float()
    too_low = torch.where(middle > 0, rounded.double() <= middle, rounded.double() < middle)
    above = torch.nextafter(rounded, torch.tensor(float("inf"), device=code.device))
    return torch.where(too_low, above, rounded) + 0.0
