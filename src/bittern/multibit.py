# SPDX-License-Identifier: Apache-2.0
"""Multi-bit numbers: a row of reals as a sum of scaled signs, found greedily, or by alternating steps (1802.00150).

A row w of n numbers becomes B a, B in {-1, +1}^(n x k), a in R^k:

    greedy           r = w; for i = 1 ... k: b_i = sign(r), a_i = mean |r|, r = r - a_i b_i
    refined greedy   after each new b_i all of a_1 ... a_i are the least squares solution, and r = w - sum_j a_j b_j
    alternating      greedy, then `cycles` times: a = least squares for these signs; then each number takes the nearest
                     of the 2^k sums of +-a_i, which is found among their midpoints (a tie takes the larger one)

Each half of a cycle can only lessen the squared error. a is then at least 0 and descends. Rows of float32 and less are
`ops.multibit_quantize`, whose order of operations is written there. Those of float64 are in float64 throughout; their
least squares solves (B'B / n + ridge) a = B'w / n, since rows of few different numbers have planes that are equal.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bittern import ops

MOST_PLANES = ops.MOST_MULTIBIT_PLANES
RIDGE = 2.0**-30
"""Added to the diagonal of B'B / n, which is 1."""


class Multibit(NamedTuple):
    """Rows as sums of scaled signs: w is about sum_i scales[..., i] * signs[i]."""

    signs: Tensor
    """[planes, *rows, n] of -1 and +1, in the type of the rows."""
    scales: Tensor
    """[*rows, planes], at least 0."""

    def real(self) -> Tensor:
        """What they stand for, [*rows, n]."""
        return (self.signs * self.scales.movedim(-1, 0).unsqueeze(-1)).sum(0)


def multibit(rows: Tensor, planes: int, *, cycles: int = 10, refined: bool = False) -> Multibit:
    """The rows [*rows, n] as `planes` planes of signs, 1 ... 8; refined: the greedy start is the refined one.

    A plane of a row of zeros has scale 0. A row that holds NaN or infinity has scales NaN.
    Raises: ValueError for other numbers of planes, cycles below 0 and rows of no numbers; TypeError for integers.
    """
    check_planes("multibit", "planes", planes)
    check_cycles("multibit", "cycles", cycles)
    if not rows.is_floating_point():
        raise TypeError(f"multibit: rows must be floating point; got {rows.dtype}")
    if rows.ndim < 1 or rows.shape[-1] == 0:
        raise ValueError(f"multibit: a row must have at least one number; got {list(rows.shape)}")
    if rows.dtype != torch.float64:
        words, scales = ops.multibit_quantize(rows.detach(), planes, cycles, refined)
        return Multibit(ops.unpack_signs(words, rows.shape[-1], rows.dtype), scales.to(rows.dtype))
    w = rows.detach()
    signs, scales = _greedy(w, planes, refined)
    for _ in range(cycles):
        scales = _least_squares(w, signs).abs().sort(dim=-1, descending=True, stable=True).values
        signs = _nearest(w, scales)
    scales = torch.where(w.isfinite().all(-1, keepdim=True), scales, float("nan"))
    return Multibit(torch.stack(signs), scales)


def check_planes(owner: str, option: str, value: object) -> None:
    """Raises: ValueError unless `value` is an integer in 1 ... 8."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_PLANES:
        raise ValueError(f"{owner}: {option} must be an integer from 1 to {MOST_PLANES}; got {value!r}")


def check_cycles(owner: str, option: str, value: object) -> None:
    """Raises: ValueError unless `value` is an integer of at least 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{owner}: {option} must be an integer of at least 0; got {value!r}")


def _greedy(w: Tensor, planes: int, refined: bool) -> tuple[list[Tensor], Tensor]:
    signs: list[Tensor] = []
    found: list[Tensor] = []
    rest = w
    for _ in range(planes):
        signs.append(torch.where(rest >= 0, 1.0, -1.0).to(w.dtype))
        found.append(rest.abs().mean(-1))
        scales = _least_squares(w, signs) if refined else torch.stack(found, -1)
        rest = w - _sum(signs, scales) if refined else rest - found[-1].unsqueeze(-1) * signs[-1]
    if not refined:
        return signs, torch.stack(found, -1)
    flips = torch.where(scales < 0, -1.0, 1.0)  # a scale below 0 is one above, of the opposite signs
    return [s * flips[..., i : i + 1] for i, s in enumerate(signs)], scales.abs()


def _sum(signs: list[Tensor], scales: Tensor) -> Tensor:
    total = scales[..., :1] * signs[0]
    for i, plane in enumerate(signs[1:], 1):
        total = total + scales[..., i : i + 1] * plane
    return total


def _least_squares(w: Tensor, signs: list[Tensor]) -> Tensor:
    """a [*rows, k] of the least sum of squares of w - sum_i a_i b_i."""
    planes = torch.stack(signs, -2)
    n, k = w.shape[-1], len(signs)
    if k == 1:
        return (planes * w.unsqueeze(-2)).mean(-1)
    products = planes @ planes.mT / n + RIDGE * torch.eye(k, dtype=w.dtype, device=w.device)
    target = (planes * w.unsqueeze(-2)).mean(-1, keepdim=True)
    solution: Tensor = torch.linalg.solve(products, target)
    return solution.squeeze(-1)


def _nearest(w: Tensor, scales: Tensor) -> list[Tensor]:
    """The signs of the sum of +-a_i that is nearest to each number, a tie to the larger sum."""
    k = scales.shape[-1]
    codes = torch.arange(2**k, device=w.device)
    table = torch.stack([(codes >> i & 1) * 2.0 - 1.0 for i in range(k)], -1).to(w.dtype)  # [2^k, k]
    sums, order = (scales.unsqueeze(-2) * table).sum(-1).sort(dim=-1, stable=True)
    middles = (sums[..., 1:] + sums[..., :-1]) / 2
    places = torch.searchsorted(middles.contiguous(), w.contiguous(), right=True)
    chosen = order.gather(-1, places)
    return [(chosen >> i & 1).to(w.dtype) * 2.0 - 1.0 for i in range(k)]
