# SPDX-License-Identifier: Apache-2.0
"""A sign with a learned noise on the CPU: float32 by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, threads
from bittern.ops.adapted_sign.arguments import AdaptedArguments, AdaptedGradientArguments
from bittern.ops.adapted_sign.reference import adapted_sign_gradient_reference, adapted_sign_reference

_PART = 2**15
"""Numbers of x whose sums one thread adds up."""
_MOST_PARTS = 64


def adapted_sign_cpu(isa: Isa, a: AdaptedArguments) -> Tensor:
    if a.x.dtype != torch.float32:
        return adapted_sign_reference(a)
    x, alpha = a.x.contiguous(), float(a.alpha.item())
    down, up, out = a.down.contiguous(), a.up.contiguous(), torch.empty_like(x)
    turned = torch.empty_like(down)
    given = (x.data_ptr(), len(x), x.shape[1], down.data_ptr(), up.data_ptr(), len(down))
    scales = (alpha, alpha * a.amplitude)
    _native.adapted_sign(isa, threads(), *given, *scales, turned.data_ptr(), out.data_ptr())
    return out


def adapted_sign_gradient_cpu(isa: Isa, a: AdaptedGradientArguments) -> tuple[Tensor, Tensor, Tensor]:
    if a.x.dtype != torch.float32:
        return adapted_sign_gradient_reference(a)
    grad, x, alpha = a.grad.contiguous(), a.x.contiguous(), float(a.alpha.item())
    down, up = a.down.contiguous(), a.up.contiguous()
    to_x, to_down, to_up = (torch.empty_like(t) for t in (x, down, up))
    parts = min(_MOST_PARTS, -(-x.numel() // _PART))
    working = torch.empty((2 * parts + 1, *down.shape), dtype=torch.float32)
    _native.adapted_sign_gradient(
        isa,
        threads(),
        x.data_ptr(),
        len(x),
        x.shape[1],
        down.data_ptr(),
        up.data_ptr(),
        len(down),
        alpha,
        alpha * a.amplitude,
        working[0].data_ptr(),
        grad.data_ptr(),
        int(a.terms.item()),
        a.omega,
        torch.finfo(torch.float32).max if a.limit is None else a.limit,
        a.rising,
        parts,
        working[1:].data_ptr(),
        to_x.data_ptr(),
        to_down.data_ptr(),
        to_up.data_ptr(),
    )
    return to_x, to_down, to_up
