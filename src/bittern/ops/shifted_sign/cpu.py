# SPDX-License-Identifier: Apache-2.0
"""A sign with a threshold per channel on the CPU: float32 by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, threads
from bittern.ops.shifted_sign.reference import shifted_sign_gradient_reference, shifted_sign_reference


def shifted_sign_cpu(isa: Isa, x: Tensor, shift: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        return shifted_sign_reference(x, shift)
    x, shift = x.contiguous(), shift.contiguous()
    out = torch.empty_like(x)
    outer, channels, inner = x.shape
    given = (x.data_ptr(), shift.data_ptr(), outer, channels, inner)
    _native.shifted_sign(isa, threads(), *given, out.data_ptr())
    return out


def shifted_sign_gradient_cpu(isa: Isa, grad: Tensor, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    if x.dtype != torch.float32:
        return shifted_sign_gradient_reference(grad, x, shift)
    grad, x, shift = grad.contiguous(), x.contiguous(), shift.contiguous()
    to_x, to_shift = torch.empty_like(x), torch.empty_like(shift)
    outer, channels, inner = x.shape
    sums = torch.empty(_native.shifted_sign_sums(outer, channels, inner), dtype=torch.float32)
    given = (grad.data_ptr(), x.data_ptr(), shift.data_ptr(), outer, channels, inner, sums.data_ptr())
    _native.shifted_sign_gradient(isa, threads(), *given, to_x.data_ptr(), to_shift.data_ptr())
    return to_x, to_shift
