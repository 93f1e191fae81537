# SPDX-License-Identifier: Apache-2.0
"""The epilogue that binary_matmul and binary_conv2d share: from the integer accumulator to a float.

    y = fma(fl(fl(float(acc) + offset) * scale), alpha, beta)

fl rounds to float32, fma rounds once. These are the roundings of a layer's scale followed by torch's batch
norm in eval mode on a CPU with FMA, so folding the two into the kernel changes no bit (docs/numerics.md).
"""

from __future__ import annotations

import torch
from torch import Tensor


def fused_multiply_add(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """fl32(x * alpha + beta) with a single rounding, for float32 operands.

    The product of two float32 is exact in float64. The float64 sum is rounded to odd (its last bit is set when
    it is inexact) so that the final rounding to float32 cannot round twice: 53 >= 2 * 24 + 2.
    """
    product = x.double() * alpha.double()
    addend = beta.double().expand_as(product)
    total = product + addend
    # Knuth's two-sum: error is what the float64 addition lost, exactly
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    bits = total.view(torch.int64)
    even = (bits & 1) == 0
    inexact = (error != 0) & total.isfinite()
    # round to odd: step the magnitude toward the exact value, so that the last bit becomes 1
    toward_zero = (error > 0) != (total > 0)
    stepped = torch.where(toward_zero, bits - 1, bits + 1)
    odd = torch.where(inexact & even, stepped, bits)
    return odd.view(torch.float64).float()


def apply_epilogue(acc: Tensor, epilogue: Tensor | None) -> Tensor:
    """acc int32 [..., out] -> the same, or float32 with the epilogue [4, out] applied."""
    if epilogue is None:
        return acc
    offset, scale, alpha, beta = epilogue
    scaled = (acc.float() + offset) * scale
    return fused_multiply_add(scaled, alpha, beta)
