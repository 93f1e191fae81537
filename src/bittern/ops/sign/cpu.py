# SPDX-License-Identifier: Apache-2.0
"""`sign` on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, chosen_isa, threads


def sign_cpu(isa: Isa, x: Tensor) -> Tensor:
    out = torch.empty_like(x)  # in the layout of x where that has no gaps
    if out.stride() != x.stride():
        x = torch.empty_like(x).copy_(x)
    _native.sign(isa, threads(), x.data_ptr(), DTYPE_CODES[x.dtype], x.numel(), out.data_ptr())
    return out


def are_signs(x: Tensor, isa: Isa | None = None) -> bool:
    """Whether each number of x, float32 on the CPU in a layout of torch's, is -1 or +1: one reading of x.

    Raises: ValueError for another x.
    """
    laid_out = x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
    if x.dtype != torch.float32 or not x.is_cpu or not laid_out:
        raise ValueError(
            f"are_signs: x must be float32 on the CPU, contiguous or channels-last; got {x.dtype} on {x.device} with "
            f"strides {x.stride()}; call x.contiguous()"
        )
    return _native.are_signs(chosen_isa() if isa is None else isa, threads(), x.data_ptr(), x.numel())
