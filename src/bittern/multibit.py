# SPDX-License-Identifier: Apache-2.0
"""Multi-bit numbers: a row of reals as a sum of scaled signs, found greedily, or by alternating steps (1802.00150).

A row w of n numbers becomes B a, B in {-1, +1}^(n x k), a in R^k:

    greedy           r = w; for i = 1 ... k: b_i = sign(r), a_i = mean |r|, r = r - a_i b_i
    refined greedy   after each new b_i all of a_1 ... a_i are the least squares solution, and r = w - sum_j a_j b_j
    alternating      greedy, then `cycles` times: a = least squares for these signs; then each number takes the nearest
                     of the 2^k sums of +-a_i, which is found among their midpoints (a tie takes the larger one)

Each half of a cycle can only lessen the squared error. a is then at least 0 and descends. Rows of float32 and less are
`ops.multibit_quantize`, whose order of operations is written there; those of float64 are its reference, in float64
throughout.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bittern import ops
from bittern.ops.multibit_quantize.reference import rows_of_planes

MOST_PLANES = ops.MOST_MULTIBIT_PLANES


class Multibit(NamedTuple):
    """Rows as sums of scaled signs: w is about sum_i scales[..., i] * signs[i]."""

    signs: Tensor
    """[planes, *rows, n] of -1 and +1, in the type of the rows."""
    scales: Tensor
    """[*rows, planes], at least 0; those of a refined start without cycles may be below."""

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
    signs, scales = rows_of_planes(rows.detach().reshape(-1, rows.shape[-1]), planes, cycles, refined)
    return Multibit(torch.stack(signs).view(planes, *rows.shape), scales.view(*rows.shape[:-1], planes))


def check_planes(owner: str, option: str, value: object) -> None:
    """Raises: ValueError unless `value` is an integer in 1 ... 8."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_PLANES:
        raise ValueError(f"{owner}: {option} must be an integer from 1 to {MOST_PLANES}; got {value!r}")


def check_cycles(owner: str, option: str, value: object) -> None:
    """Raises: ValueError unless `value` is an integer of at least 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{owner}: {option} must be an integer of at least 0; got {value!r}")
