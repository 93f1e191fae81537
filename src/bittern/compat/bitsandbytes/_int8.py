# SPDX-License-Identifier: Apache-2.0
"""The integer half of LLM.int8() (arXiv:2208.07339): row-wise int8 codes, exact integer products, their scales."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.compat.bitsandbytes._check import check_kind
from bittern.ops.linear_8bit.reference import LEVELS


def int8_vectorwise_quant(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor | None]:
    """Row-wise codes: (int8 of A's shape, float32 absmax per row, columns of outliers or None without a threshold).

    code = round(127 a / absmax), half to even. threshold > 0: a column with any |a| >= threshold is an outlier; its
    codes are 0 and such values do not count for absmax. A row of zeros has codes 0.
    Errors: ValueError unless A is float32, bfloat16 or float16.
    """
    check_kind("int8_vectorwise_quant", "A", A, torch.float16, torch.bfloat16, torch.float32)
    rows = A.reshape(-1, A.shape[-1]).float()
    columns = None
    if threshold > 0.0:
        large = rows.abs() >= threshold
        columns = large.any(dim=0).nonzero().view(-1)
        rows = rows.masked_fill(large, 0.0)
    absmax = rows.abs().amax(dim=1) if rows.numel() else rows.new_zeros(rows.shape[0])
    scale = torch.where(absmax > 0, LEVELS / absmax, 0.0)
    codes = (rows * scale.unsqueeze(1)).round().to(torch.int8)
    if columns is not None:
        codes[:, columns] = 0
    return codes.view(A.shape), absmax, columns


def int8_vectorwise_dequant(A: Tensor, stats: Tensor) -> Tensor:
    """float32 values of row-wise codes: A * stats / 127."""
    check_kind("int8_vectorwise_dequant", "A", A, torch.int8)
    return A * (stats.view(*A.shape[:-1], 1) / LEVELS)


def int8_double_quant(
    A: Tensor,
    col_stats: Tensor | None = None,
    row_stats: Tensor | None = None,
    out_col: Tensor | None = None,
    out_row: Tensor | None = None,
    threshold: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Codes by rows and by columns: (row codes, column codes, row absmax, column absmax, outlier columns).

    The four optional tensors are filled instead of new ones.
    """
    rows, row_absmax, columns = int8_vectorwise_quant(A, threshold)
    flat = A.reshape(-1, A.shape[-1])
    if threshold > 0.0:
        flat = flat.masked_fill(flat.abs() >= threshold, 0.0)
    by_column, column_absmax, _ = int8_vectorwise_quant(flat.t())
    found = [rows, by_column.t().contiguous().view(A.shape), row_absmax, column_absmax]
    wanted = [out_row, out_col, row_stats, col_stats]
    filled = [new if old is None else old.copy_(new) for old, new in zip(wanted, found, strict=True)]
    return filled[0], filled[1], filled[2], filled[3], columns


def int8_linear_matmul(A: Tensor, B: Tensor, out: Tensor | None = None, dtype: torch.dtype = torch.int32) -> Tensor:
    """A [..., k] int8 times B [n, k] int8 transposed: exact int32 [..., n]. Errors: ValueError for another dtype."""
    for name, x in (("A", A), ("B", B)):
        check_kind("int8_linear_matmul", name, x, torch.int8)
    if dtype != torch.int32:
        raise ValueError(
            f"int8_linear_matmul: the product is int32; got dtype={dtype}; leave it out, and cast the result"
        )
    rows = A.reshape(-1, A.shape[-1])
    if rows.shape[0] and rows.shape[1]:
        product = torch._int_mm(rows.contiguous(), B.t())
    else:
        product = torch.zeros(rows.shape[0], B.shape[0], dtype=torch.int32, device=A.device)
    product = product.view(*A.shape[:-1], B.shape[0])
    return product if out is None else out.copy_(product)


def int8_mm_dequant(
    A: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    out: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """float16 values of an int32 product: A * row_stats * col_stats / 127^2 + bias, computed in float32."""
    check_kind("int8_mm_dequant", "A", A, torch.int32)
    values = scaled(A.view(-1, A.shape[-1]), row_stats, col_stats, bias).to(torch.float16).view(A.shape)
    return values if out is None else out.copy_(values)


def scaled(product: Tensor, row_stats: Tensor, col_stats: Tensor, bias: Tensor | None) -> Tensor:
    """float32 [m, n]: product * row * column / 127^2 + bias."""
    values = product * (row_stats.view(-1, 1) * col_stats.view(1, -1)) / LEVELS**2
    return values if bias is None else values + bias.float()


def int8_mixed_product(
    rows: Tensor,
    codes: Tensor,
    weight: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    outliers: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """rows @ W^T + bias, [m, n] of rows' dtype: codes @ weight^T exactly, and the outlier columns of rows in float32.

    rows [m, k] with int8 codes and row_stats [m]; weight [n, k] int8 with col_stats [n]; outliers: column numbers.
    """
    values = scaled(int8_linear_matmul(codes, weight), row_stats, col_stats, bias)
    if outliers is not None and outliers.numel():
        columns = weight[:, outliers] * (col_stats.view(-1, 1) / LEVELS)
        values = values + rows[:, outliers].float() @ columns.t()
    return values.to(rows.dtype)
