# SPDX-License-Identifier: Apache-2.0
"""The counter-based generator of stochastic rounding: the same bits on every device and in every implementation."""

from __future__ import annotations

from torch import Tensor

_LOW = 0xFFFFFFFF


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32 bits, kept in int64, in which every input bit flips every output bit about half of the time."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _LOW
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _LOW
    return x ^ (x >> 16)


def random32(seed: int, index: Tensor) -> Tensor:
    """Elements `index` (int64, any shape) of the stream of `seed` (64 bits): int64 in [0, 2**32).

    With all sums modulo 2**32: mix(mix(low(index) + low(seed)) ^ (high(index) + high(seed))).
    """
    low = _mix(((index & _LOW) + (seed & _LOW)) & _LOW)
    return _mix(low ^ (((index >> 32) + (seed >> 32)) & _LOW))


def random_unit(seed: int, index: Tensor) -> Tensor:
    """Numbers in [0, 1), float32: the upper 24 bits of `random32`."""
    return (random32(seed, index) >> 8).float() * 2.0**-24
