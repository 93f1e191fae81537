# SPDX-License-Identifier: Apache-2.0
"""The meaning of a product with integer weights in groups, in plain torch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._epilogue import fused_multiply_add
from bittern.ops.linear_8bit.reference import row_codes
from bittern.ops.linear_groups.arguments import DequantizeGroupsArguments, LinearGroupsArguments
from bittern.ops.linear_groups.layout import unpack_codes, unpack_rows


def zeros_of(codes: Tensor, zero: Tensor | None, rows: int) -> Tensor:
    """float32 [rows, groups] or, of a weight without zero points, a number: the code that stands for 0."""
    return torch.tensor(2.0 ** (codes.shape[2] - 1)) if zero is None else unpack_rows(zero, rows).float()


def dequantize_groups_reference(a: DequantizeGroupsArguments) -> Tensor:
    """W [out_features, in_features] = scale * (code - zero), two roundings to float32, then one to `dtype`."""
    rows, columns = a.out_features, a.in_features
    codes = unpack_codes(a.codes, rows, columns).float()

    def spread(values: Tensor) -> Tensor:
        return values.repeat_interleave(a.group, 1)[:, :columns] if a.group and values.ndim else values

    zero, scale = zeros_of(a.codes, a.zero, rows).to(codes.device), unpack_rows(a.scale, rows).float()
    return ((codes - spread(zero)) * spread(scale)).to(a.dtype)


def linear_groups_reference(a: LinearGroupsArguments) -> Tensor:
    """x W^T + bias, summed in float32; int8: x in codes by rows, exact sums of each group, added up in their order."""
    if a.int8:
        return _integer_product(a)
    weight = DequantizeGroupsArguments(a.codes, a.scale, a.zero, a.group, a.out_features, a.x.shape[-1])
    y = a.x.float() @ dequantize_groups_reference(weight).t()
    return (y if a.bias is None else y + a.bias.float()).to(a.x.dtype)


def _integer_product(a: LinearGroupsArguments) -> Tensor:
    x_codes, step = row_codes(a.x)
    rows, columns = a.out_features, a.x.shape[-1]
    codes, scale = unpack_codes(a.codes, rows, columns).double(), unpack_rows(a.scale, rows).float()
    zero = zeros_of(a.codes, a.zero, rows).to(scale.device).expand_as(scale)
    y = scale.new_zeros(len(x_codes), rows)
    group = a.group or max(columns, 1)
    for g, start in enumerate(range(0, columns, group)):
        part = slice(start, start + group)
        product = (x_codes[:, part].double() @ codes[:, part].t()).float()
        total = x_codes[:, part].double().sum(1, keepdim=True).float()
        product = fused_multiply_add(-zero[:, g].expand_as(product), total.expand_as(product), product)
        y = fused_multiply_add(product, scale[:, g].expand_as(product), y)
    y = y * step
    y = y if a.bias is None else y + a.bias.float()
    return y.to(a.x.dtype).view(*a.x.shape[:-1], rows)
