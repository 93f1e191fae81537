# SPDX-License-Identifier: Apache-2.0
"""A table's codes by the leading bits of a float32: one look-up and one comparison find the nearest entry.

The magnitudes from 2^-24 to 1 fall into bins of equal leading bits: the exponent and some bits of the fraction; what is
smaller falls into the lowest bin, and 1 and more into the highest. Where no bin holds two borders between entries, the
code of y is the code of the least number in its bin, or the next one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.codebooks import boundaries

BINADES = 24
"""Powers of two that are told apart."""
MANTISSAS = range(4, 8)
"""Bits of the fraction to try: 7 are enough for 256 entries without sign, 128 of which lie in [0.5, 1)."""


def bin_count(mantissa: int) -> int:
    """Bins of one sign."""
    return (BINADES << mantissa) + 1


def first_bin(mantissa: int) -> int:
    """The leading bits of the lowest bin."""
    return (127 - BINADES) << mantissa


def fewest_bins(code: Tensor) -> tuple[Tensor, int]:
    """(uint8 [2, bin_count], bits of the fraction), or (nothing, 0) where bins of 7 bits still hold two borders.

    Per bin the code of its least y, for positive y and for negative. code: as `quantize_blockwise` takes it, on any
    device; the result is on the CPU.
    """
    for mantissa in MANTISSAS:
        found = _bins(code, mantissa)
        if found is not None:
            return found, mantissa
    return torch.empty(0, dtype=torch.uint8), 0


def _bins(code: Tensor, mantissa: int) -> Tensor | None:
    borders = boundaries(code.detach().cpu())
    places = torch.arange(bin_count(mantissa) + 1) + first_bin(mantissa)
    edges = (places << (23 - mantissa)).int().view(torch.float32)
    least, most = edges[:-1].clone(), torch.nextafter(edges[1:], torch.zeros(()))
    least[0] = 0.0
    low = torch.stack([least, -most])
    high = torch.stack([most, -least])
    below, above = (torch.searchsorted(borders, y, right=True) for y in (low, high))
    return below.to(torch.uint8) if bool((above - below <= 1).all()) else None
