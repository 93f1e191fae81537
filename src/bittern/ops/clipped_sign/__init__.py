# SPDX-License-Identifier: Apache-2.0
"""Signs and levels for training, each with the mask of its clipped straight-through estimator, in one pass.

clipped_sign(x, limit=1.0, strict=False) -> (values, mask)
    values = +1 where x >= 0, else -1; inside: |x| <= limit, or with `strict` |x| < limit
clipped_levels(x, bits=1) -> (values, mask)
    values = round_half_even(clip(x, 0, 1) * (2^bits - 1)), 0 where x is NaN, never -0; inside: 0 <= x <= 1
masked_gradient(grad, mask, factor=1.0) -> grad * (factor inside, else 0), a product: so inf * 0 is NaN
x, grad: any shape, float32, float64, float16 or bfloat16 -> values and the product: the same shape and dtype.
mask: uint8 [ceil(n / 8)] for n elements in their order, bit i % 8 of byte i / 8 for element i, surplus bits 0. NaN is
not inside. limit is rounded to the dtype of x before it is compared, as torch does.
On the CPU native code serves float32; other dtypes are torch's own operations, one after another.
Errors: TypeError for another dtype; ValueError for a mask of another length, bits outside 1 ... 8, or a limit below 0.
Not differentiable: `bittern.estimators` uses them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype, check_same_device
from bittern.ops._op import Op, lazily
from bittern.ops.clipped_sign.cpu import clipped_levels_cpu, clipped_sign_cpu, masked_gradient_cpu
from bittern.ops.clipped_sign.reference import (
    clipped_levels_reference,
    clipped_sign_reference,
    mask_bytes,
    masked_gradient_reference,
)

__all__ = ["clipped_levels", "clipped_sign", "masked_gradient"]

MOST_BITS = 8


def _check_sign(x: Tensor, limit: float = 1.0, strict: bool = False) -> None:
    check_dtype("clipped_sign", "x", x, FLOATS)
    if not limit >= 0.0:
        raise ValueError(f"clipped_sign: limit must be at least 0; got {limit}; pass the largest |x| inside")


def _check_levels(x: Tensor, bits: int = 1) -> None:
    check_dtype("clipped_levels", "x", x, FLOATS)
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"clipped_levels: bits must be from 1 to {MOST_BITS}; got {bits}")


def _check_gradient(grad: Tensor, mask: Tensor, factor: float = 1.0) -> None:
    check_dtype("masked_gradient", "grad", grad, FLOATS)
    check_dtype("masked_gradient", "mask", mask, (torch.uint8,))
    check_same_device("masked_gradient", grad=grad, mask=mask)
    if mask.ndim != 1 or mask.shape[0] != mask_bytes(grad):
        raise ValueError(
            f"masked_gradient: mask must have {mask_bytes(grad)} bytes for {grad.numel()} elements; "
            f"got {list(mask.shape)}; pass the mask of the same tensor"
        )


def _fake_pair(x: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
    values = torch.empty_like(x, memory_format=torch.contiguous_format)
    return values, x.new_empty(mask_bytes(x), dtype=torch.uint8)


clipped_sign: Op[tuple[Tensor, Tensor]] = Op(
    "clipped_sign(Tensor x, float limit=1.0, bool strict=False) -> (Tensor, Tensor)",
    check=_check_sign,
    reference=clipped_sign_reference,
    fake=_fake_pair,
    cpu=clipped_sign_cpu,
    cuda=lazily("bittern.ops.clipped_sign.cuda", "clipped_sign_cuda"),
)

clipped_levels: Op[tuple[Tensor, Tensor]] = Op(
    "clipped_levels(Tensor x, int bits=1) -> (Tensor, Tensor)",
    check=_check_levels,
    reference=clipped_levels_reference,
    fake=_fake_pair,
    cpu=clipped_levels_cpu,
    cuda=lazily("bittern.ops.clipped_sign.cuda", "clipped_levels_cuda"),
)

masked_gradient: Op[Tensor] = Op(
    "masked_gradient(Tensor grad, Tensor mask, float factor=1.0) -> Tensor",
    check=_check_gradient,
    reference=masked_gradient_reference,
    fake=lambda grad, *_, **__: torch.empty_like(grad, memory_format=torch.contiguous_format),
    cpu=masked_gradient_cpu,
    cuda=lazily("bittern.ops.clipped_sign.cuda", "masked_gradient_cuda"),
)
