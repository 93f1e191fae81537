# SPDX-License-Identifier: Apache-2.0
"""How often numbers of each size were seen: 1,024 bins in every octave [2^e, 2^(e+1)), either sign, and zeros apart.

A bin is the leading bits of a float32: sign, exponent and 10 bits of the fraction. So its borders do not depend on the
data: no range grows, an outlier of any size costs one octave (8 KB) and coarsens nothing, the order of the data does
not matter, and the histograms of two replicas add up to the one that a single process would have made. There are at
most 510 octaves, 4 MB; data of 20 bits of dynamic range take 160 KB a sign.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

FRACTION_BITS = 10
PER_OCTAVE = 2**FRACTION_BITS
DROPPED_BITS = 23 - FRACTION_BITS
"""Bits of a float32's fraction that a bin does not tell apart."""
SIGN_BIT = 31
NUMBER_BITS = 2**SIGN_BIT - 1


class Bins(NamedTuple):
    """The bins that are not empty, in ascending order of their numbers; float64, [bins] each."""

    low: Tensor
    high: Tensor
    """Borders, within the least and the largest number seen; equal for the bin of zeros."""
    counts: Tensor


class Histogram:
    """Counts of float32 numbers; `low` and `high` are the least and the largest, exactly."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.zeros = 0
        self.octaves: dict[tuple[bool, int], Tensor] = {}
        """(negative, biased exponent) -> int64 [1024]."""

    def add(self, x: Tensor) -> None:
        """x: finite float32 of any shape, at least one number."""
        x = x.reshape(-1)
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        self.zeros += x.numel() - int(x.count_nonzero())
        for negative, part in ((False, x[x > 0]), (True, x[x < 0])):
            if part.numel():
                self._add_bits(negative, part.view(torch.int32) & NUMBER_BITS)

    def _add_bits(self, negative: bool, bits: Tensor) -> None:
        keys = bits >> DROPPED_BITS
        first = int(keys.min()) // PER_OCTAVE
        counts = torch.bincount(keys - first * PER_OCTAVE)
        whole = torch.nn.functional.pad(counts, (0, -counts.numel() % PER_OCTAVE)).cpu().view(-1, PER_OCTAVE)
        for i in whole.any(1).nonzero()[:, 0].tolist():
            self._add_octave((negative, first + i), whole[i].clone())

    def _add_octave(self, key: tuple[bool, int], counts: Tensor) -> None:
        before = self.octaves.get(key)
        self.octaves[key] = counts if before is None else before + counts

    def merge(self, other: Histogram) -> None:
        """Adds what another has seen."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.zeros += other.zeros
        for key, counts in other.octaves.items():
            self._add_octave(key, counts)

    def bins(self, per_octave: int = PER_OCTAVE) -> Bins:
        """The bins that are not empty; per_octave: how many bins an octave has, a power of two up to 1,024."""
        parts = [self._octave(negative, octave, per_octave) for negative, octave in sorted(self.octaves)]
        if self.zeros:
            parts.append(Bins(*(torch.tensor([v], dtype=torch.float64) for v in (0.0, 0.0, float(self.zeros)))))
        low, high, counts = (torch.cat(field) for field in zip(*parts, strict=True))
        order = torch.argsort(low + high)
        low, high, counts = low[order], high[order], counts[order]
        return Bins(low.clamp(self.low, self.high), high.clamp(self.low, self.high), counts)

    def _octave(self, negative: bool, octave: int, per_octave: int) -> Bins:
        counts = self.octaves[negative, octave].view(per_octave, -1).sum(1)
        used = counts.nonzero()[:, 0]
        width = PER_OCTAVE // per_octave
        keys = octave * PER_OCTAVE + used * width
        near, far = _border(keys), _border(keys + width)
        low, high = (-far, -near) if negative else (near, far)
        return Bins(low, high, counts[used].double())

    def magnitudes(self) -> tuple[Tensor, float]:
        """Counts of |x| > 0 in equal bins from 0 on, [up to 2048] float64, and their width.

        The octave of the largest |x| has 1,024 bins; those of smaller octaves are finer, so that whole ones fall into
        a bin here. Without numbers but zeros: none, and 0.
        """
        if not self.octaves:
            return torch.zeros(0, dtype=torch.float64), 0.0
        top = max(octave for _, octave in self.octaves)
        width = float(_border(torch.tensor(top * PER_OCTAVE + 1)) - _border(torch.tensor(top * PER_OCTAVE)))
        counts = torch.zeros(2 * PER_OCTAVE, dtype=torch.float64)
        for (_, octave), part in self.octaves.items():
            keys = octave * PER_OCTAVE + torch.arange(PER_OCTAVE)
            counts.index_add_(0, (_border(keys) / width).long(), part.double())
        used = int(counts.nonzero().max()) + 1
        return counts[:used], width


def _border(keys: Tensor) -> Tensor:
    """The least |x| of a bin, float64; that behind the last bin of float32 is 2^128."""
    exponent, fraction = keys // PER_OCTAVE, (keys % PER_OCTAVE).double() / PER_OCTAVE
    one = (exponent > 0).double()  # subnormal numbers lack the leading 1 and share the exponent 1
    return torch.ldexp(one + fraction, exponent.clamp(min=1) - 127)
