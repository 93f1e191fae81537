# SPDX-License-Identifier: Apache-2.0
"""Four bits that train: squares on a logarithmic scale, means relative to their roots, both rounded at random.

Nearest rounding keeps a square for ever: it shrinks by 0.1 % a step, and codes of 4 bits are 50 % apart. Here a code of
a square v is 0 for 0, or c = 1 ... 15 for the level whose float32 bits are

    H - (15 - c) S,  at least those of 2^-126;  H: bits of the block's largest v,  S = (H - bits of its smallest) / 14

so levels are evenly spaced in (piecewise linear) log2, up to two octaves apart. A block stores its largest and its
lowest level. A mean m is stored as m / sqrt(v), which is bounded, in 15 even levels j s / 7, s the block's largest.

With U uniform in [0, 1), a ratio becomes floor(7 m / (s sqrt(v)) + U), and a square between two levels goes up where
U < r - 0.0866 s r (1 - r), r being its place between them and s their distance in octaves: v^(1/4) has next to no bias
then, so that the mean of 1 / sqrt(v), by which a step is scaled, is right. U = 1/2 rounds to nearest.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 15
LARGEST_RATIO = 7
LEAST_BITS = 0x00800000
"""Bits of the smallest normal float32, 2^-126."""
LEAST_STEP, MOST_STEP = 1 << 18, 1 << 24
"""Of S: 1/32 octave and two octaves."""
BEND = 0.0866 / 2**23
"""How far rounding of a square bends from even chances, per unit of S."""
LEAST_RATIO = 2.0**-120
"""Blocks whose largest ratio is smaller are stored as zeros, for 7 / s must be finite."""
MOST_RATIO = 2.0**60
"""Larger ones count as this, for s / 7 times the root of any float32 must be finite: 0 times infinity is no mean."""


def _bits(x: Tensor) -> Tensor:
    return x.contiguous().view(torch.int32).long()


def _root(v: Tensor) -> Tensor:
    """Rounded correctly, which torch's root of float32 numbers is not on every CPU."""
    return v.double().sqrt().float()


# Quotients are those of two tensors: by a number, torch may multiply with its reciprocal instead.


def _floats(bits: Tensor) -> Tensor:
    return bits.to(torch.int32).view(torch.float32)


def encode_squares(v: Tensor, chance: Tensor | float) -> tuple[Tensor, Tensor]:
    """v float32 [blocks, n], at least 0; chance: U -> (codes int64 [blocks, n], levels [blocks, 2])."""
    bits = _bits(v)
    there = bits >= LEAST_BITS
    most = torch.where(there, bits, 0).amax(-1, keepdim=True)
    least = torch.where(there, bits, most).amin(-1, keepdim=True)
    step = ((most - least) // (LEVELS - 1)).clamp(LEAST_STEP, MOST_STEP)
    lowest = most - (LEVELS - 1) * step
    place = (bits - lowest).float() * (1.0 / step.float())
    below = place.floor()
    rest = place - below
    up = chance < rest - step.float() * BEND * (rest * (1.0 - rest))
    codes = torch.where(there, (below + up).clamp(0, LEVELS - 1).long() + 1, 0)
    return codes, torch.where(most > 0, _floats(torch.cat([most, lowest], -1)), 0.0)


def decode_squares(codes: Tensor, levels: Tensor) -> Tensor:
    """Codes [blocks, n] and `levels` [blocks, 2] as `encode_squares` gives them -> float32 [blocks, n]."""
    most, lowest = _bits(levels).unsqueeze(-1).unbind(1)
    step = (most - lowest) // (LEVELS - 1)
    bits = (most - (LEVELS - codes.long()) * step).clamp(min=LEAST_BITS)
    return torch.where(codes > 0, _floats(bits), 0.0)


def encode_ratios(m: Tensor, v: Tensor, chance: Tensor | float) -> tuple[Tensor, Tensor]:
    """m float32 [blocks, n], v its squares before rounding -> (codes int64 [blocks, n], largest ratio [blocks])."""
    ratio = torch.where(_bits(v) >= LEAST_BITS, m / _root(v), 0.0)
    largest = ratio.abs().amax(-1).clamp(max=MOST_RATIO)
    largest = torch.where(largest >= LEAST_RATIO, largest, 0.0)
    inverse = torch.where(largest > 0, torch.full_like(largest, LARGEST_RATIO) / largest, 0.0)
    level = (ratio * inverse[:, None] + chance).floor().clamp(-LARGEST_RATIO, LARGEST_RATIO)
    return torch.where(inverse[:, None] > 0, level, 0.0).long() & 15, largest


def decode_ratios(codes: Tensor, largest: Tensor, v: Tensor) -> Tensor:
    """Codes [blocks, n], the largest ratio [blocks] and the decoded squares -> float32 [blocks, n]."""
    level = (codes.long() ^ 8) - 8
    unit = largest / torch.full_like(largest, LARGEST_RATIO)
    return level.float() * (unit[:, None] * _root(v))
