# SPDX-License-Identifier: Apache-2.0
"""The operators of LLM.int8() (arXiv:2208.07339) under their names in `torch.ops.bitsandbytes`."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.compat.bitsandbytes._int8 import (
    int8_double_quant,
    int8_linear_matmul,
    int8_mixed_product,
    int8_vectorwise_dequant,
    int8_vectorwise_quant,
    scaled,
)
from bittern.compat.bitsandbytes._torch_ops._operator import Operator, filling, unknown_count


def _product(A: Tensor, B: Tensor) -> Tensor:
    return A.new_empty((*A.shape[:-1], B.shape[0]), dtype=torch.int32)


def _scaled_mm(
    A: Tensor,
    B: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    return _mm_dequant(int8_linear_matmul(A, B), row_stats, col_stats, dtype, bias)


def _scaled_mm_fake(
    A: Tensor,
    B: Tensor,
    row_stats: Tensor,
    col_stats: Tensor,
    bias: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    return A.new_empty((*A.shape[:-1], B.shape[0]), dtype=dtype or torch.float16)


def _mm_dequant(
    A: Tensor, row_stats: Tensor, col_stats: Tensor, dtype: torch.dtype | None = None, bias: Tensor | None = None
) -> Tensor:
    values = scaled(A.reshape(-1, A.shape[-1]), row_stats, col_stats, bias)
    return values.to(dtype or torch.float16).view(A.shape)


def _mm_dequant_fake(
    A: Tensor, row_stats: Tensor, col_stats: Tensor, dtype: torch.dtype | None = None, bias: Tensor | None = None
) -> Tensor:
    return A.new_empty(A.shape, dtype=dtype or torch.float16)


def _mixed(
    A: Tensor,
    CA: Tensor,
    CB: Tensor,
    SCA: Tensor,
    SCB: Tensor,
    outlier_cols: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    outliers = None if outlier_cols is None or not outlier_cols.numel() else outlier_cols
    rows = A.reshape(-1, A.shape[-1])
    product = int8_mixed_product(rows, CA.reshape(rows.shape), CB, SCA, SCB, outliers, bias)
    found = None if outliers is None else A[..., outliers].contiguous()
    return product.view(*A.shape[:-1], CB.shape[0]), found


def _mixed_fake(
    A: Tensor,
    CA: Tensor,
    CB: Tensor,
    SCA: Tensor,
    SCB: Tensor,
    outlier_cols: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    found = None
    if outlier_cols is not None:
        found = A.new_empty((*A.shape[:-1], outlier_cols.shape[0]))
    return A.new_empty((*CA.shape[:-1], CB.shape[0])), found


def _rows_fake(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor | None]:
    absmax = A.new_empty(A.numel() // A.shape[-1], dtype=torch.float32)
    return A.new_empty(A.shape, dtype=torch.int8), absmax, unknown_count(A) if threshold > 0.0 else None


def _double(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    return int8_double_quant(A, threshold=threshold)


def _double_fake(A: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    rows, row_absmax, columns = _rows_fake(A, threshold)
    return rows, torch.empty_like(rows), row_absmax, A.new_empty(A.shape[-1], dtype=torch.float32), columns


_MATMUL = Operator("int8_linear_matmul(Tensor A, Tensor B) -> Tensor", int8_linear_matmul, _product)

OPERATORS = (
    _MATMUL,
    filling(_MATMUL, "int8_linear_matmul.out(Tensor A, Tensor B, Tensor(a!) out) -> ()"),
    Operator(
        "int8_mixed_scaled_mm(Tensor A, Tensor CA, Tensor CB, Tensor SCA, Tensor SCB, Tensor? outlier_cols=None, "
        "Tensor? bias=None) -> (Tensor, Tensor?)",
        _mixed,
        _mixed_fake,
    ),
    Operator(
        "int8_scaled_mm(Tensor A, Tensor B, Tensor row_stats, Tensor col_stats, Tensor? bias=None, "
        "ScalarType? dtype=None) -> Tensor",
        _scaled_mm,
        _scaled_mm_fake,
    ),
    Operator(
        "int8_vectorwise_quant(Tensor A, float threshold=0.0) -> (Tensor, Tensor, Tensor?)",
        int8_vectorwise_quant,
        _rows_fake,
    ),
    Operator(
        "int8_vectorwise_dequant(Tensor A, Tensor stats) -> Tensor",
        int8_vectorwise_dequant,
        lambda A, stats: A.new_empty(A.shape, dtype=torch.float32),
    ),
    Operator(
        "int8_mm_dequant(Tensor A, Tensor row_stats, Tensor col_stats, ScalarType? dtype=None, Tensor? bias=None)"
        " -> Tensor",
        _mm_dequant,
        _mm_dequant_fake,
    ),
    Operator(
        "int8_double_quant(Tensor A, float threshold=0.0) -> (Tensor, Tensor, Tensor, Tensor, Tensor?)",
        _double,
        _double_fake,
    ),
)
