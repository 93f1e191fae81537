# SPDX-License-Identifier: Apache-2.0
"""The range whose grid represents a histogram best: by squared error, or by Kullback-Leibler divergence.

Squared error. Numbers lie evenly within their bin [a, b]. On a grid of step S between the levels L and H, the sum of
(x - x_q)^2 over a bin of n numbers is n (E(b) - E(a)) / (b - a), where with c = clamp(x, L, H) and k = round(c / S)

    E(x) = S^3 (k / 12 + (c / S - k)^3 / 3) + (x - c)^3 / 3

is the integral of (x - x_q)^2 from 0 to x. So bins may be wider than steps.

Divergence (TensorRT's calibration). Of the counts h of |x| in n equal bins, the threshold behind bin i keeps
P = h[:i], with all that is larger added to its last bin. Q is h[:i] with `levels` values: bins are put together in
`levels` groups, bin j into group floor(j levels / i), and each group is shared out evenly among its bins where P > 0.
i is the one of least sum P log(P / Q), P and Q divided by their sums; a tie takes the larger range.

Differences from the published description: numbers that are exactly 0 are not counted, since every grid has them (after
a ReLU they would decide all); the threshold is the border behind bin i - 1, not half a bin further.

Source: S. Migacz, 8-bit Inference with TensorRT, GPU Technology Conference 2017, for the divergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bittern.ptq.histogram import Bins
from bittern.ptq.steps import input_limits, scale_and_zero

COARSE: tuple[float, ...] = tuple(math.pow(2.0, -i / 2) for i in range(25))
"""Shares of the whole range that are tried first, 1 ... 2^-12."""
FINE = 20
"""How many shares between the neighbours of the best are tried next."""
SWEEPS = 3
"""How often the two ends of a range are searched in turn."""
TIE = 1e-12
"""Divergences that differ by less are equal: they are differences of sums in float64."""


def squared_error(bins: Bins, low: float, high: float, *, bits: int, symmetric: bool) -> float:
    """The sum of (x - x_q)^2 over all numbers, on the grid of the range low ... high."""
    scale, zero = scale_and_zero(low, high, bits=bits, symmetric=symmetric)
    least, most = input_limits(bits)
    levels = (least - zero, most - zero)
    width = bins.high - bins.low
    even = (_integral(bins.high, scale, levels) - _integral(bins.low, scale, levels)) / width
    nearest = (bins.low / scale).round().clamp(*levels) * scale
    return float((torch.where(width > 0, even, (bins.low - nearest) ** 2) * bins.counts).sum())


def _integral(x: Tensor, scale: float, levels: tuple[int, int]) -> Tensor:
    inside = x.clamp(levels[0] * scale, levels[1] * scale)
    steps = inside / scale
    nearest = steps.round()
    return scale**3 * (nearest / 12 + (steps - nearest) ** 3 / 3) + (x - inside) ** 3 / 3


def least_squares_range(bins: Bins, *, bits: int, symmetric: bool) -> tuple[float, float]:
    """The range low <= 0 <= high of least `squared_error`, each end a share of the least or largest number."""
    ends = [min(float(bins.low[0]), 0.0), max(float(bins.high[-1]), 0.0)]

    def error(low: float, high: float) -> float:
        return squared_error(bins, low, high, bits=bits, symmetric=symmetric)

    if symmetric:
        largest = max(-ends[0], ends[1])
        share = _best_share(lambda t: error(-largest * t, largest * t))
        return -largest * share, largest * share
    best = list(ends)
    for _ in range(SWEEPS if ends[0] < 0 < ends[1] else 1):
        best[1] = ends[1] * _best_share(lambda t: error(best[0], ends[1] * t)) if ends[1] else 0.0
        best[0] = ends[0] * _best_share(lambda t: error(ends[0] * t, best[1])) if ends[0] else 0.0
    return best[0], best[1]


def _best_share(error: Callable[[float], float]) -> float:
    """The share of 1 with the least error: coarsely, then between the neighbours of the best."""
    best: float = min(COARSE, key=error)
    top, bottom = min(best / COARSE[1], COARSE[0]), best * COARSE[1]
    fine = [top + (bottom - top) * i / FINE for i in range(FINE + 1)]
    shares: list[float] = [best, *fine]
    return min(shares, key=error)


def least_divergence(counts: Tensor, levels: int) -> int:
    """How many of the bins to keep, levels ... n, by the rule above; n where there are no more bins than levels."""
    n = counts.numel()
    if n <= levels:
        return n
    kept = torch.arange(n, levels - 1, -1)
    found = divergences(counts, kept, levels)
    return int(kept[(found <= found.min() + TIE).nonzero()[0, 0]])


def divergences(counts: Tensor, kept: Tensor, levels: int) -> Tensor:
    """sum P log(P / Q) for each number of bins kept, at least `levels`; infinite where Q lacks what P has.

    In a group Q has one value wherever P > 0, so all follows from sums over groups, which are differences of running
    sums: sum P log Q = sum over groups (sum P) log(sum h / bins of the group where P > 0).
    """
    total, used, self_terms = (_running(v) for v in (counts, (counts > 0).double(), torch.xlogy(counts, counts)))
    # group g begins at the first j with floor(j levels / kept) >= g
    begins = (torch.arange(levels + 1) * kept[:, None] + levels - 1) // levels
    sums, members = total[begins].diff(dim=1), used[begins].diff(dim=1)
    last, beyond = counts[kept - 1], total[-1] - total[kept]
    members[:, -1] += ((last == 0) & (beyond > 0)).double()
    of_p = sums.clone()
    of_p[:, -1] += beyond
    p_log_p = self_terms[kept] - torch.xlogy(last, last) + torch.xlogy(last + beyond, last + beyond)
    p_log_q = torch.xlogy(of_p, sums / members.clamp(min=1.0)).sum(1)
    found = (p_log_p - p_log_q) / total[-1] - torch.log(total[-1]) + torch.log(total[kept])
    return torch.where(total[kept] > 0, found, torch.inf)


def _running(x: Tensor) -> Tensor:
    """Sums of the first 0, 1, ... n numbers."""
    return torch.nn.functional.pad(x.cumsum(0), (1, 0))
