# SPDX-License-Identifier: Apache-2.0
"""`linear_4bit` and its backward on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads
from bittern.ops.linear_4bit.arguments import BackwardArguments, Linear4bitArguments
from bittern.ops.linear_4bit.scales import contiguous, scale_pointers


def linear_4bit_cpu(isa: Isa, a: Linear4bitArguments) -> Tensor:
    x, packed, absmax, code = (t.contiguous() for t in a[:4])
    scales, offset = contiguous(a.absmax_scales), contiguous(a.absmax_offset)
    bias = contiguous(a.bias)
    in_features = x.shape[-1]
    out = torch.empty((*x.shape[:-1], a.out_features), dtype=x.dtype)
    _native.linear_4bit(
        isa,
        threads(),
        x.data_ptr(),
        DTYPE_CODES[x.dtype],
        x.shape[:-1].numel(),
        packed.data_ptr(),
        scale_pointers(absmax, scales, offset),
        code.data_ptr(),
        a.block_size,
        a.out_features,
        in_features,
        0 if bias is None else bias.data_ptr(),
        out.data_ptr(),
    )
    return out


def linear_4bit_backward_cpu(isa: Isa, a: BackwardArguments) -> Tensor:
    grad, packed, absmax, code = (t.contiguous() for t in a[:4])
    scales, offset = contiguous(a.absmax_scales), contiguous(a.absmax_offset)
    out = torch.empty((*grad.shape[:-1], a.in_features), dtype=grad.dtype)
    _native.linear_4bit_backward(
        isa,
        threads(),
        grad.data_ptr(),
        DTYPE_CODES[grad.dtype],
        grad.shape[:-1].numel(),
        packed.data_ptr(),
        scale_pointers(absmax, scales, offset),
        code.data_ptr(),
        a.block_size,
        grad.shape[-1],
        a.in_features,
        out.data_ptr(),
    )
    return out
