# SPDX-License-Identifier: Apache-2.0
"""`sign` on CUDA, by Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._triton import launch, tl, triton, widen

_BLOCK = 1024
"""Elements per program."""


@triton.jit
def _sign_kernel(x: tl.tensor, out: tl.tensor, n: tl.tensor, BLOCK: tl.constexpr) -> None:
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    values = widen(tl.load(x + place, mask=place < n, other=0))
    tl.store(out + place, tl.where(values >= 0, 1.0, -1.0).to(out.dtype.element_ty), mask=place < n)


def sign_cuda(x: Tensor) -> Tensor:
    out = torch.empty_like(x)  # in the layout of x where that has no gaps
    if out.stride() != x.stride():
        x = torch.empty_like(x).copy_(x)
    if x.numel():
        launch(_sign_kernel, triton.cdiv(x.numel(), _BLOCK), out, x, out, x.numel(), BLOCK=_BLOCK)
    return out
