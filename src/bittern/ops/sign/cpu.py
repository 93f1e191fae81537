# SPDX-License-Identifier: Apache-2.0
"""`sign` on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads


def sign_cpu(isa: Isa, x: Tensor) -> Tensor:
    out = torch.empty_like(x)  # in the layout of x where that has no gaps
    if out.stride() != x.stride():
        x = torch.empty_like(x).copy_(x)
    _native.sign(isa, threads(), x.data_ptr(), DTYPE_CODES[x.dtype], x.numel(), out.data_ptr())
    return out
