# SPDX-License-Identifier: Apache-2.0
"""`clipped_sign`, `clipped_levels` and `masked_gradient` on CUDA, by Triton: a program makes some bytes of the mask."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._triton import launch, tl, triton, widen
from bittern.ops.clipped_sign.reference import mask_bytes

_BYTES = 128
"""Bytes of the mask per program."""


@triton.jit
def _places(BYTES: tl.constexpr) -> tl.tensor:
    """The places of the elements of a program, [bytes, 8]."""
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    return byte[:, None] * 8 + tl.arange(0, 8)[None, :]


@triton.jit
def _store_mask(mask: tl.tensor, inside: tl.tensor, n: tl.tensor, BYTES: tl.constexpr) -> None:
    bits = tl.sum(inside.to(tl.int32) << tl.arange(0, 8)[None, :], axis=1)
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    tl.store(mask + byte, bits.to(tl.uint8), mask=byte * 8 < n)


@triton.jit
def _sign_kernel(
    x: tl.tensor,
    limit: tl.tensor,
    out: tl.tensor,
    mask: tl.tensor,
    n: tl.tensor,
    STRICT: tl.constexpr,
    BYTES: tl.constexpr,
) -> None:
    place = _places(BYTES)
    values = widen(tl.load(x + place, mask=place < n, other=0))
    most = widen(tl.load(limit))
    inside = (values < most) & (values > -most) if STRICT else (values <= most) & (values >= -most)
    tl.store(out + place, tl.where(values >= 0, 1.0, -1.0).to(out.dtype.element_ty), mask=place < n)
    _store_mask(mask, inside & (place < n), n, BYTES)


@triton.jit
def _levels_kernel(
    x: tl.tensor, out: tl.tensor, mask: tl.tensor, n: tl.tensor, TOP: tl.constexpr, BYTES: tl.constexpr
) -> None:
    place = _places(BYTES)
    loaded = tl.load(x + place, mask=place < n, other=0)
    values = widen(loaded)
    raised = tl.where(values > 0, values, 0.0)  # a NaN is greater than nothing
    # the product is rounded to the type of x, as torch's is, before it is rounded to an integer; half to even
    scaled = widen((tl.where(raised > 1, 1.0, raised) * TOP).to(loaded.dtype))
    below = tl.floor(scaled)
    half = scaled - below
    odd = below - 2.0 * tl.floor(below * 0.5)
    level = below + tl.where((half > 0.5) | ((half == 0.5) & (odd == 1.0)), 1.0, 0.0)
    tl.store(out + place, level.to(out.dtype.element_ty), mask=place < n)
    _store_mask(mask, (values >= 0) & (values <= 1) & (place < n), n, BYTES)


@triton.jit
def _gradient_kernel(
    grad: tl.tensor, mask: tl.tensor, factor: tl.tensor, out: tl.tensor, n: tl.tensor, BYTES: tl.constexpr
) -> None:
    place = _places(BYTES)
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    bits = tl.load(mask + byte, mask=byte * 8 < n, other=0).to(tl.int32)
    inside = (bits[:, None] >> tl.arange(0, 8)[None, :]) & 1
    values = widen(tl.load(grad + place, mask=place < n, other=0))
    slope = widen(tl.load(factor))
    tl.store(out + place, (values * tl.where(inside == 1, slope, 0.0)).to(out.dtype.element_ty), mask=place < n)


def clipped_sign_cuda(x: Tensor, limit: float = 1.0, strict: bool = False) -> tuple[Tensor, Tensor]:
    x, out, mask = _made(x)
    most = torch.tensor(limit, dtype=x.dtype, device=x.device)
    if x.numel():
        blocks = triton.cdiv(mask.numel(), _BYTES)
        launch(_sign_kernel, blocks, out, x, most, out, mask, x.numel(), STRICT=strict, BYTES=_BYTES)
    return out, mask


def clipped_levels_cuda(x: Tensor, bits: int = 1) -> tuple[Tensor, Tensor]:
    x, out, mask = _made(x)
    if x.numel():
        blocks = triton.cdiv(mask.numel(), _BYTES)
        launch(_levels_kernel, blocks, out, x, out, mask, x.numel(), TOP=float(2**bits - 1), BYTES=_BYTES)
    return out, mask


def masked_gradient_cuda(grad: Tensor, mask: Tensor, factor: float = 1.0) -> Tensor:
    grad, mask = grad.contiguous(), mask.contiguous()
    out = torch.empty_like(grad)
    if grad.numel():
        slope = torch.tensor(factor, dtype=grad.dtype, device=grad.device)
        blocks = triton.cdiv(mask.numel(), _BYTES)
        launch(_gradient_kernel, blocks, out, grad, mask, slope, out, grad.numel(), BYTES=_BYTES)
    return out


def _made(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x and where the values and the mask go."""
    x = x.contiguous()
    return x, torch.empty_like(x), torch.empty(mask_bytes(x), dtype=torch.uint8, device=x.device)
