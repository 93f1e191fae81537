# SPDX-License-Identifier: Apache-2.0
"""`linear_groups` and `dequantize_groups` on the CPU, by native code."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import DTYPE_CODES
from bittern.ops._isa import Isa, threads
from bittern.ops.linear_groups.arguments import DequantizeGroupsArguments, LinearGroupsArguments


class _Weight(NamedTuple):
    """What native code asks of a weight, and the tensors that its pointers point into."""

    codes: Tensor
    scale: Tensor
    zero: Tensor | None
    group: int

    def numbers(self) -> tuple[int, int, int, int, int, bool, int]:
        zero = self.zero
        return (
            self.codes.data_ptr(),
            self.codes.shape[2],
            self.scale.data_ptr(),
            DTYPE_CODES[self.scale.dtype],
            0 if zero is None else zero.data_ptr(),
            zero is not None and zero.dtype == torch.uint8,
            self.group,
        )


def _contiguous(codes: Tensor, scale: Tensor, zero: Tensor | None, group: int) -> _Weight:
    return _Weight(codes.contiguous(), scale.contiguous(), None if zero is None else zero.contiguous(), group)


def linear_groups_cpu(isa: Isa, a: LinearGroupsArguments) -> Tensor:
    x, bias = a.x.contiguous(), None if a.bias is None else a.bias.contiguous()
    weight = _contiguous(a.codes, a.scale, a.zero, a.group)
    out = torch.empty((*x.shape[:-1], a.out_features), dtype=x.dtype)
    _native.linear_groups(
        isa,
        threads(),
        x.data_ptr(),
        DTYPE_CODES[x.dtype],
        x.shape[:-1].numel(),
        *weight.numbers(),
        a.out_features,
        x.shape[-1],
        0 if bias is None else bias.data_ptr(),
        a.int8,
        out.data_ptr(),
    )
    return out


def dequantize_groups_cpu(isa: Isa, a: DequantizeGroupsArguments) -> Tensor:
    weight = _contiguous(a.codes, a.scale, a.zero, a.group)
    out = torch.empty(a.out_features, a.in_features, dtype=a.dtype)
    _native.dequantize_groups(
        isa, threads(), *weight.numbers(), a.out_features, a.in_features, DTYPE_CODES[a.dtype], out.data_ptr()
    )
    return out
