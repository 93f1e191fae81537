# SPDX-License-Identifier: Apache-2.0
"""The meaning of LLM.int8() in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.linear_8bit.arguments import Linear8bitArguments

LEVELS = 127.0
"""Codes are -127 .. 127; the largest magnitude of a row takes the last one."""


def _rows(x: Tensor) -> Tensor:
    return x.reshape(x.shape[:-1].numel(), x.shape[-1])


def outlier_columns(x: Tensor, threshold: float) -> Tensor:
    """int64 [outliers]: columns of x [..., k] with a magnitude of at least `threshold`; none for a threshold of 0."""
    if threshold == 0 or not x.numel():
        return torch.empty(0, dtype=torch.int64, device=x.device)
    return (_rows(x).abs() >= threshold).any(0).nonzero().view(-1)


def without_columns(x: Tensor, columns: Tensor) -> Tensor:
    """x with zeros in the columns."""
    return x.index_fill(-1, columns, 0.0) if columns.numel() else x


def outlier_product(x: Tensor, weight: Tensor, scale: Tensor, columns: Tensor) -> Tensor:
    """float32 [..., n]: the part of x W^T that comes from the columns."""
    values = weight[:, columns].float() * (scale * (1 / LEVELS)).unsqueeze(1)
    return x[..., columns].float() @ values.t()


def row_codes(x: Tensor) -> tuple[Tensor, Tensor]:
    """float32 integers [m, k], and the real value of one step [m, 1]: NaN for rows that are not finite."""
    rows = _rows(x).float()
    absmax = rows.abs().amax(1, keepdim=True) if rows.shape[1] else rows.new_zeros(rows.shape[0], 1)
    usable = absmax.isfinite() & (absmax >= torch.finfo(torch.float32).tiny)
    # a number divided by a tensor would be a product with the reciprocal, which rounds twice
    scale = torch.full_like(absmax, LEVELS) / absmax
    codes = torch.where(usable, (rows * scale).round(), 0.0)
    return codes, torch.where(absmax.isfinite(), absmax * (1 / LEVELS), torch.nan)


def linear_8bit_reference(a: Linear8bitArguments) -> Tensor:
    """Exact int32 product of row-wise codes, scaled, plus the outlier columns of x in float32, plus bias."""
    x, weight, scale, bias, threshold = a
    columns = outlier_columns(x, threshold)
    codes, step = row_codes(without_columns(x, columns))
    product = (codes.double() @ weight.double().t()).float()
    y = product * step * (scale * (1 / LEVELS))
    if columns.numel():
        y = y + outlier_product(x, weight, scale, columns).view(y.shape)
    y = y if bias is None else y + bias.float()
    return y.to(x.dtype).view(*x.shape[:-1], weight.shape[0])
