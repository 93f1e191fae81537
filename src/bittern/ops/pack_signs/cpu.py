# SPDX-License-Identifier: Apache-2.0
"""`pack_signs` on the CPU, by native code."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES, words_for
from bittern.ops._isa import Isa, chosen_isa, threads


class PreparedPack:
    """`pack_signs` with a fixed threshold, without the dispatcher: microseconds matter between small layers.

    threshold: [n] or None. Call with x [..., n] of a dtype that fits the threshold -> int64 [..., ceil(n / 64)]. The
    caller answers for dtype and device.
    """

    def __init__(self, threshold: Tensor | None = None, isa: Isa | None = None) -> None:
        self.isa = chosen_isa() if isa is None else isa
        self.threshold = None if threshold is None else threshold.contiguous()
        self._limits = 0 if self.threshold is None else self.threshold.data_ptr()

    def __call__(self, x: Tensor) -> Tensor:
        columns, code = x.shape[-1], DTYPE_CODES[x.dtype]
        if self.threshold is not None and self.threshold.numel() != columns:
            raise ValueError(f"pack_signs: x must have {self.threshold.numel()} numbers a row; got {columns}")
        out = torch.empty((*x.shape[:-1], words_for(columns)), dtype=torch.int64, device="cpu")
        if x.ndim > 2 and x.movedim(-1, 1).is_contiguous():  # torch's images, seen with channels last
            size = x.shape[0], math.prod(x.shape[1:-1]), columns
            _native.pack_planar(self.isa, threads(), x.data_ptr(), code, *size, self._limits, out.data_ptr())
            return out
        x = x.contiguous()
        rows = x.numel() // columns
        _native.pack_signs(self.isa, threads(), x.data_ptr(), code, rows, columns, self._limits, out.data_ptr())
        return out


def pack_signs_cpu(isa: Isa, x: Tensor, threshold: Tensor | None = None) -> Tensor:
    return PreparedPack(threshold, isa)(x)
