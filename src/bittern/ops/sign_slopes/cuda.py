# SPDX-License-Identifier: Apache-2.0
"""The gradients of a sign on CUDA: ApproxSign by Triton, the others as the reference has them.

Those need sines and exponentials of a stated error, which Triton's approximate ones do not promise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._triton import launch, tl, triton, widen
from bittern.ops.sign_slopes.arguments import FourierArguments
from bittern.ops.sign_slopes.reference import (
    error_decay_gradient_reference,
    fourier_gradient_reference,
    noisy_sign_reference,
)

_BLOCK = 1024
"""Elements per program."""


@triton.jit
def _approx_kernel(grad: tl.tensor, x: tl.tensor, out: tl.tensor, n: tl.tensor, BLOCK: tl.constexpr) -> None:
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    loaded = tl.load(x + place, mask=place < n, other=0)
    values = widen(loaded)
    size = tl.where(values < 0, -values, values)
    # rounded to the type of x before it is multiplied, as torch's operations round
    line = widen((2.0 - 2.0 * size).to(loaded.dtype))
    slope = tl.where(line < 0, 0.0, line)
    product = widen(tl.load(grad + place, mask=place < n, other=0)) * slope
    tl.store(out + place, product.to(out.dtype.element_ty), mask=place < n)


def approx_sign_gradient_cuda(grad: Tensor, x: Tensor) -> Tensor:
    grad, x = grad.contiguous(), x.contiguous()
    out = torch.empty_like(x)
    if x.numel():
        launch(_approx_kernel, triton.cdiv(x.numel(), _BLOCK), out, grad, x, out, x.numel(), BLOCK=_BLOCK)
    return out


def error_decay_gradient_cuda(grad: Tensor, x: Tensor, t: Tensor, k: Tensor) -> Tensor:
    return error_decay_gradient_reference(grad, x, t, k)


def fourier_gradient_cuda(a: FourierArguments) -> Tensor:
    return fourier_gradient_reference(a)


def noisy_sign_cuda(x: Tensor, noise: Tensor, wave: Tensor) -> Tensor:
    return noisy_sign_reference(x, noise, wave)
