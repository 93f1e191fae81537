# SPDX-License-Identifier: Apache-2.0
"""`standard_sign` and its gradient on the CPU: float32 by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, threads
from bittern.ops.standard_sign.reference import standard_sign_gradient_reference, standard_sign_reference


def standard_sign_cpu(isa: Isa, x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    if x.dtype != torch.float32:
        return standard_sign_reference(x, epsilon)
    x = x.contiguous()
    out, statistics = torch.empty_like(x), torch.empty((x.shape[0], 2))
    sizes = (x.shape[0], x.shape[1:].numel())
    _native.standard_sign(isa, threads(), x.data_ptr(), *sizes, epsilon, out.data_ptr(), statistics.data_ptr())
    return out, statistics


def standard_sign_gradient_cpu(isa: Isa, grad: Tensor, x: Tensor, statistics: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        return standard_sign_gradient_reference(grad, x, statistics)
    grad, x, statistics = grad.contiguous(), x.contiguous(), statistics.contiguous()
    out = torch.empty_like(x)
    pointers = (grad.data_ptr(), x.data_ptr(), statistics.data_ptr())
    _native.standard_sign_gradient(isa, threads(), *pointers, x.shape[0], x.shape[1:].numel(), out.data_ptr())
    return out
