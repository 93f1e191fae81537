# SPDX-License-Identifier: Apache-2.0
"""From a range to a grid: real value = scale * (integer - zero), where the real 0 is an integer exactly.

    inputs      S = (high - low) / (most - least), Z = round(least - low / S) within [least, most]; least ... most are
                -2^(bits-1) ... 2^(bits-1) - 1; symmetric: S = max(-low, high) / most, Z = 0
    weights     one S for each output channel, Z = 0, integers -(2^(bits-1) - 1) ... 2^(bits-1) - 1, so that the grid is
                symmetric and two products of bytes fit an int16 sum
    integer     clamp(round(x / S) + Z), halves away from zero, as the program's node `quantize` rounds

Scales are float32 numbers. A range of zeros alone is represented by every scale; it takes 1. Scales below the smallest
normal float32 take that one, and the grid is then wider than the range.

Differences from the paper: its integers are 0 ... 2^bits - 1 and its weights have a zero too; the same grids, moved by
2^(bits-1), and symmetric for weights, as TensorFlow Lite has them.

Source: Jacob et al., arXiv:1712.05877.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.ops.fixed_point import rounded_away

MOST_BITS = 8
LEAST_SCALE = torch.finfo(torch.float32).tiny
SHRINKS = 80
"""How many shrunken ranges `least_squares_channel_steps` tries, as BRECQ's code does."""


class Limits(NamedTuple):
    """The least and the largest integer of a grid."""

    least: int
    most: int


def input_limits(bits: int) -> Limits:
    """All integers of `bits` bits: -2^(bits-1) ... 2^(bits-1) - 1."""
    check_bits("input_limits", bits)
    return Limits(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def weight_limits(bits: int) -> Limits:
    """The integers of `bits` bits that are symmetric about 0: -(2^(bits-1) - 1) ... 2^(bits-1) - 1."""
    check_bits("weight_limits", bits)
    return Limits(1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1)


def check_bits(owner: str, bits: object) -> None:
    """Raises: ValueError unless bits is an integer in 2 ... 8."""
    if not isinstance(bits, int) or isinstance(bits, bool) or not 2 <= bits <= MOST_BITS:
        raise ValueError(f"{owner}: bits must be an integer from 2 to {MOST_BITS}; got {bits!r}")


def scale_and_zero(low: float, high: float, *, bits: int = 8, symmetric: bool = False) -> tuple[float, int]:
    """The float32 scale and the integer zero of a range low <= 0 <= high; the formula is above.

    Raises: ValueError for a range that leaves 0 out, is reversed, NaN or infinite, and for bits outside 2 ... 8.
    """
    least, most = input_limits(bits)
    if not (math.isfinite(low) and math.isfinite(high) and low <= 0.0 <= high):
        raise ValueError(f"scale_and_zero: a range must be finite with low <= 0 <= high; got {low!r} to {high!r}")
    if symmetric:
        return _scale(max(-low, high) / most), 0
    scale = _scale((high - low) / (most - least))
    zero = math.floor(least - low / scale + 0.5)
    return scale, min(max(zero, least), most)


def _scale(real: float) -> float:
    if real == 0.0:
        return 1.0
    return max(float(torch.tensor(real, dtype=torch.float32)), LEAST_SCALE)


def quantize(x: Tensor, scale: Tensor | float, zero: Tensor | int, limits: Limits) -> Tensor:
    """The integers of x, int8: clamp(round(x / scale) + zero), halves away from zero.

    scale, zero: one, or any that combine with x, such as [channels, 1, 1, 1].
    Raises: ValueError for NaN in x, which is no number of any grid.
    """
    if bool(x.isnan().any()):
        raise ValueError(f"quantize: x must be numbers; {int(x.isnan().sum())} of {x.numel()} are NaN")
    return (rounded_away(x / scale) + zero).clamp(limits.least, limits.most).to(torch.int8)


def dequantize(codes: Tensor, scale: Tensor | float, zero: Tensor | int) -> Tensor:
    """scale * (codes - zero), float32."""
    return (codes.float() - zero) * scale


def channel_steps(w: Tensor, *, bits: int = 8, axis: int = 0) -> Tensor:
    """max |w| / (2^(bits-1) - 1) of each channel along `axis`, [channels] float32; 1 for a channel of zeros.

    Raises: ValueError for NaN or infinity in w, no channels, and bits outside 2 ... 8.
    """
    rows = _rows("channel_steps", w, axis)
    largest = rows.abs().amax(1)
    return torch.where(largest == 0, 1.0, (largest / weight_limits(bits).most).clamp(min=LEAST_SCALE))


def least_squares_channel_steps(w: Tensor, *, bits: int = 8, axis: int = 0, power: float = 2.0) -> Tensor:
    """The step of each channel whose integers lie nearest to w: least sum |w - w_q|^power, [channels] float32.

    80 shares of `channel_steps` are tried, 0.21 ... 1 in steps of 0.01; a tie takes the larger. Power 2 is the squared
    error; BRECQ's code takes 2.4.
    Raises: as `channel_steps`, and ValueError for a power that is not positive and finite.
    """
    if not (math.isfinite(power) and power > 0):
        raise ValueError(f"least_squares_channel_steps: power must be positive and finite; got {power!r}")
    rows, limits = _rows("least_squares_channel_steps", w, axis), weight_limits(bits)
    full = channel_steps(rows, bits=bits)
    best, least = full, torch.full_like(full, math.inf)
    for i in range(SHRINKS):
        steps = (full * (1.0 - i / 100)).clamp(min=LEAST_SCALE)
        error = (rows - dequantize(quantize(rows, steps[:, None], 0, limits), steps[:, None], 0)).abs()
        # in units of the step, so that the power of tiny weights is not 0
        error = (error / full[:, None]).pow(power).sum(1)
        best, least = torch.where(error < least, steps, best), torch.minimum(error, least)
    return best


def _rows(owner: str, w: Tensor, axis: int) -> Tensor:
    """w as [channels, n], float32."""
    if w.ndim < 1 or w.numel() == 0:
        raise ValueError(f"{owner}: w must have at least one number in each channel; got {list(w.shape)}")
    if not w.is_floating_point():
        raise TypeError(f"{owner}: w must be floating point; got {w.dtype}")
    if not bool(w.isfinite().all()):
        raise ValueError(f"{owner}: w must be finite; {int((~w.isfinite()).sum())} of {w.numel()} are not")
    return w.detach().float().movedim(axis, 0).flatten(1) if w.ndim > 1 else w.detach().float()[:, None]
