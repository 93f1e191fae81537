# SPDX-License-Identifier: Apache-2.0
"""`linear_8bit` on the CPU: outlier columns by torch, the integer product by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads
from bittern.ops.linear_8bit.arguments import Linear8bitArguments
from bittern.ops.linear_8bit.reference import outlier_columns, outlier_product, without_columns

NEARLY = 1 - 2**-7
"""Of a threshold: less than what it is in any type of x, whose comparison rounds it."""


def _may_have_outliers(x: Tensor, threshold: float) -> bool:
    """Whether a magnitude comes near the threshold, or is NaN, in one call of torch where the columns take five."""
    if threshold == 0 or not x.numel():
        return False
    least, most = torch.aminmax(x)
    return not -threshold * NEARLY < least.item() <= most.item() < threshold * NEARLY


def linear_8bit_cpu(isa: Isa, a: Linear8bitArguments) -> Tensor:
    x, weight, scale = (t.contiguous() for t in a[:3])
    bias = None if a.bias is None else a.bias.contiguous()
    extra = None
    if _may_have_outliers(x, a.threshold):
        columns = outlier_columns(x, a.threshold)
        extra = outlier_product(x, weight, scale, columns) if columns.numel() else None
        x = without_columns(x, columns)
    n, k = weight.shape
    out = torch.empty((*x.shape[:-1], n), dtype=x.dtype)
    _native.linear_8bit(
        isa,
        threads(),
        x.data_ptr(),
        DTYPE_CODES[x.dtype],
        x.shape[:-1].numel(),
        n,
        k,
        weight.data_ptr(),
        scale.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        0 if extra is None else extra.data_ptr(),
        out.data_ptr(),
    )
    return out
