# SPDX-License-Identifier: Apache-2.0
"""`scaled_gradient` on the CPU: float32 by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, threads
from bittern.ops.scaled_gradient.reference import scaled_gradient_reference


def scaled_gradient_cpu(isa: Isa, grad: Tensor, y: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    if y.dtype != torch.float32:
        return scaled_gradient_reference(grad, y, factor)
    grad, y, factor = grad.contiguous(), y.contiguous(), factor.contiguous()
    to_y, to_factor = torch.empty_like(y), torch.empty_like(factor)
    rows, n = y.shape
    given = (grad.data_ptr(), y.data_ptr(), factor.data_ptr())
    _native.scaled_gradient(isa, threads(), *given, rows, n, to_y.data_ptr(), to_factor.data_ptr())
    return to_y, to_factor
