# SPDX-License-Identifier: Apache-2.0
"""pack_levels(x, planes): the bit planes of levels, one bit per element of the last dimension.

x: float32 [..., n], n >= 1. planes: 2 ... 8.
    level = round_half_even(clip(x, 0, 1) * (2^planes - 1)), 0 for NaN
-> int64 words [planes, ..., ceil(n / 64)]: bit j of each level in plane j, laid out as `pack_signs` does it.
One plane is a comparison: `pack_signs` with the smallest float32 above 1/2 as threshold.
Errors: TypeError for another dtype, ValueError for n = 0 or another number of planes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype, words_for
from bittern.ops._op import Op
from bittern.ops.pack_levels.cpu import pack_levels_cpu
from bittern.ops.pack_levels.reference import pack_levels_reference

LEAST_PLANES, MOST_PLANES = 2, 8


def _check(x: Tensor, planes: int) -> None:
    check_dtype("pack_levels", "x", x, (torch.float32,))
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"pack_levels: x needs at least one element in its last dimension; got {list(x.shape)}")
    if not LEAST_PLANES <= planes <= MOST_PLANES:
        raise ValueError(f"pack_levels: planes must be {LEAST_PLANES} ... {MOST_PLANES}; got {planes}")


def _fake(x: Tensor, planes: int) -> Tensor:
    return x.new_empty((planes, *x.shape[:-1], words_for(x.shape[-1])), dtype=torch.int64)


pack_levels: Op[Tensor] = Op(
    "pack_levels(Tensor x, int planes) -> Tensor",
    check=_check,
    reference=pack_levels_reference,
    fake=_fake,
    cpu=pack_levels_cpu,
    cuda=pack_levels_reference,  # a rounding and shifts of whole tensors: what torch's own kernels are for
)
