# SPDX-License-Identifier: Apache-2.0
"""`linear_4bit` and its backward on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads


def linear_4bit_cpu(
    isa: Isa,
    x: Tensor,
    packed: Tensor,
    absmax: Tensor,
    code: Tensor,
    block_size: int,
    out_features: int,
    bias: Tensor | None = None,
) -> Tensor:
    x, packed, absmax, code = x.contiguous(), packed.contiguous(), absmax.contiguous(), code.contiguous()
    bias = None if bias is None else bias.contiguous()
    in_features = x.shape[-1]
    out = torch.empty((*x.shape[:-1], out_features), dtype=x.dtype)
    _native.linear_4bit(
        isa,
        threads(),
        x.data_ptr(),
        DTYPE_CODES[x.dtype],
        x.shape[:-1].numel(),
        packed.data_ptr(),
        absmax.data_ptr(),
        code.data_ptr(),
        block_size,
        out_features,
        in_features,
        0 if bias is None else bias.data_ptr(),
        out.data_ptr(),
    )
    return out


def linear_4bit_backward_cpu(
    isa: Isa, grad: Tensor, packed: Tensor, absmax: Tensor, code: Tensor, block_size: int, in_features: int
) -> Tensor:
    grad, packed, absmax, code = grad.contiguous(), packed.contiguous(), absmax.contiguous(), code.contiguous()
    out = torch.empty((*grad.shape[:-1], in_features), dtype=grad.dtype)
    _native.linear_4bit_backward(
        isa,
        threads(),
        grad.data_ptr(),
        DTYPE_CODES[grad.dtype],
        grad.shape[:-1].numel(),
        packed.data_ptr(),
        absmax.data_ptr(),
        code.data_ptr(),
        block_size,
        grad.shape[-1],
        in_features,
        out.data_ptr(),
    )
    return out
