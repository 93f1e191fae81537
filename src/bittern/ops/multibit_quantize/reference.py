# SPDX-License-Identifier: Apache-2.0
"""The meaning of `multibit_quantize` in plain torch, on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops.mean_magnitude.reference import SUMS
from bittern.ops.multibit_quantize.arguments import MultibitQuantizeArguments
from bittern.ops.pack_signs.reference import pack_signs_reference

DEPENDENT = 2.0**-10
"""A pivot below this is 0: another is at least (4 / 8)^7, see `least_squares`."""


def multibit_quantize_reference(a: MultibitQuantizeArguments) -> tuple[Tensor, Tensor]:
    """`rows_of_planes` in float32, with its planes as packed signs."""
    *rows, n = a.x.shape
    planes, scale = rows_of_planes(a.x.float().reshape(-1, n), a.planes, a.cycles, a.refined)
    words = torch.stack([pack_signs_reference(b) for b in planes])
    return words.view(a.planes, *rows, words.shape[-1]), scale.view(*rows, a.planes)


def rows_of_planes(x: Tensor, count: int, cycles: int, refined: bool) -> tuple[list[Tensor], Tensor]:
    """Rows [rows, n] of float32 or float64, whose type all sums have -> `count` planes of +-1 and scales [rows, count].

    Planes one after the other, then scales and planes in turn. A row without finite scales has -1 in all its planes.
    """
    planes, scale = _started(x, count, refined)
    finite = scale.isfinite().all(1)
    for _ in range(cycles):
        scale = least_squares(x, planes).abs().sort(1, descending=True).values
        finite = finite & scale.isfinite().all(1)
        planes = nearest(x, scale)
    finite = finite & _combined(scale, [True] * count).isfinite()
    planes = [torch.where(finite[:, None], b, -1.0).to(x.dtype) for b in planes]
    return planes, torch.where(finite[:, None], scale, torch.nan)


def _started(x: Tensor, count: int, refined: bool) -> tuple[list[Tensor], Tensor]:
    """`count` planes of +-1 [rows, n] and their scales [rows, count]."""
    planes: list[Tensor] = []
    scales: list[Tensor] = []
    rest = x
    for i in range(count):
        plane = torch.where(rest >= 0, 1.0, -1.0)
        planes.append(plane)
        if refined:
            scales = list(least_squares(x, planes).unbind(1))
            rest = x - _decoded(planes, scales)
        else:
            scales.append(_row_sums(rest.abs()) / x.shape[1])
            rest = torch.where(plane > 0, rest - scales[i][:, None], rest + scales[i][:, None])
    return planes, torch.stack(scales, 1)


def _decoded(planes: list[Tensor], scales: list[Tensor]) -> Tensor:
    total = planes[0] * scales[0][:, None]
    for plane, scale in zip(planes[1:], scales[1:], strict=True):
        total = total + plane * scale[:, None]
    return total


def _row_sums(x: Tensor) -> Tensor:
    """[rows, n] -> [rows]: as many sums as `mean_magnitude` has, from 0 on, and halved until one is left."""
    terms = F.pad(x, (0, -x.shape[1] % SUMS)).view(len(x), -(-x.shape[1] // SUMS), SUMS)
    total = torch.zeros_like(terms[:, 0])
    for i in range(terms.shape[1]):
        total = total + terms[:, i]
    while (half := total.shape[1] // 2) > 0:
        total = total[:, :half] + total[:, half:]
    return total[:, 0]


def least_squares(x: Tensor, planes: list[Tensor]) -> Tensor:
    """[rows, planes] of the type of x: a of the least |x - sum_i a_i B_i|^2; 0 for a plane that those before make up.

    A pivot is the squared distance of its plane from what those before it span. Where j planes are independent, some j
    of their columns are a j x j matrix of +-1 that has an inverse: its determinant is a multiple of 2^(j - 1), that of
    the products of its first j - 1 rows at most j^(j - 1), so a pivot that is not 0 is at least (4 / j)^(j - 1).
    """
    count = len(planes)
    target = [_row_sums(x * plane).double() for plane in planes]
    wide = [plane.double() for plane in planes]
    upper: dict[tuple[int, int], Tensor] = {}
    low: dict[tuple[int, int], Tensor] = {}
    for j in range(count):
        for i in range(j, count):
            upper[i, j] = (wide[i] * wide[j]).sum(1)  # exact
            for m in range(j):
                upper[i, j] = upper[i, j] - upper[i, m] * low[j, m]
            low[i, j] = torch.where(upper[j, j] > DEPENDENT, upper[i, j] / upper[j, j], 0.0)
    for i in range(count):
        for m in range(i):
            target[i] = target[i] - low[i, m] * target[m]
    found: list[Tensor] = [torch.empty(0)] * count
    for i in reversed(range(count)):
        found[i] = torch.where(upper[i, i] > DEPENDENT, target[i] / upper[i, i], 0.0)
        for m in range(i + 1, count):
            found[i] = found[i] - low[m, i] * found[m]
    return torch.stack(found, 1).to(x.dtype)


def _combined(scale: Tensor, plus: list[bool]) -> Tensor:
    """[rows]: the sum of +-scale, rounded plane by plane."""
    total = scale[:, 0] if plus[0] else -scale[:, 0]
    for i in range(1, len(plus)):
        total = total + scale[:, i] if plus[i] else total - scale[:, i]
    return total


def nearest(x: Tensor, scale: Tensor) -> list[Tensor]:
    """The planes of +-1 whose sum with these scales is nearest to x, a tie going up."""
    count = scale.shape[1]
    signs = [[bool(code >> (count - 1 - i) & 1) for i in range(count)] for code in range(2**count)]
    sums, codes = torch.stack([_combined(scale, plus) for plus in signs], 1).sort(dim=1, stable=True)
    borders = 0.5 * sums[:, :-1] + 0.5 * sums[:, 1:]
    place = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
    for border in borders.unbind(1):
        place += x >= border[:, None]
    code = codes.gather(1, place)
    return [torch.where((code >> (count - 1 - i) & 1) > 0, 1.0, -1.0) for i in range(count)]
