# SPDX-License-Identifier: Apache-2.0
"""The gradients of a sign on the CPU: float32 by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, threads
from bittern.ops.sign_slopes.arguments import FourierArguments
from bittern.ops.sign_slopes.reference import (
    approx_sign_gradient_reference,
    error_decay_gradient_reference,
    fourier_gradient_reference,
    noisy_sign_reference,
)


def approx_sign_gradient_cpu(isa: Isa, grad: Tensor, x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        return approx_sign_gradient_reference(grad, x)
    grad, x = grad.contiguous(), x.contiguous()
    out = torch.empty_like(x)
    _native.approx_sign_gradient(isa, threads(), grad.data_ptr(), x.data_ptr(), x.numel(), out.data_ptr())
    return out


def error_decay_gradient_cpu(isa: Isa, grad: Tensor, x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        return error_decay_gradient_reference(grad, x, t, k)
    grad, x = grad.contiguous(), x.contiguous()
    out = torch.empty_like(x)
    scalars = (float(t.item()), float(k.item()))
    _native.error_decay_gradient(isa, threads(), grad.data_ptr(), x.data_ptr(), x.numel(), *scalars, out.data_ptr())
    return out


def fourier_gradient_cpu(isa: Isa, a: FourierArguments) -> Tensor:
    if a.x.dtype != torch.float32:
        return fourier_gradient_reference(a)
    grad, x = a.grad.contiguous(), a.x.contiguous()
    out = torch.empty_like(x)
    _native.fourier_gradient(
        isa,
        threads(),
        grad.data_ptr(),
        x.data_ptr(),
        x.numel(),
        int(a.terms.item()),
        a.omega,
        torch.finfo(torch.float32).max if a.limit is None else a.limit,
        a.rising,
        0.0 if a.wave is None else float(a.wave.item()),
        out.data_ptr(),
    )
    return out


def noisy_sign_cpu(isa: Isa, x: Tensor, noise: Tensor, wave: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        return noisy_sign_reference(x, noise, wave)
    x, noise = x.contiguous(), noise.contiguous()
    out = torch.empty_like(x)
    pointers = (x.data_ptr(), noise.data_ptr())
    _native.noisy_sign(isa, threads(), *pointers, x.numel(), float(wave.item()), out.data_ptr())
    return out
