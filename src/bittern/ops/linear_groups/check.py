# SPDX-License-Identifier: Apache-2.0
"""What `linear_groups` and `dequantize_groups` ask of a weight in groups."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype
from bittern.ops.linear_groups.layout import GROUPS, PLANES, ROWS, groups_of, tiles_of

SCALES = (torch.float32, torch.float16)
ZEROS = (torch.uint8, torch.float32)


def check_weight(
    op: str, codes: Tensor, scale: Tensor, zero: Tensor | None, group: int, rows: int, columns: int
) -> None:
    """A weight [rows, columns] as `layout` packs it."""
    if rows < 0 or columns < 0:
        raise ValueError(f"{op}: features must not be negative; got {rows} out and {columns} in; pass the weight's")
    if group not in (*GROUPS, 0):
        raise ValueError(f"{op}: group must be 32, 64, 128, or 0 for whole rows; got {group}; quantize anew")
    check_dtype(op, "codes", codes, (torch.int32,))
    high, wide = tiles_of(rows, columns)
    if codes.ndim != 4 or codes.shape[2] not in PLANES or tuple(codes.shape) != (high, wide, codes.shape[2], ROWS):
        raise ValueError(
            f"{op}: codes of a weight [{rows}, {columns}] must be [{high}, {wide}, bits, {ROWS}] with 2, 3, 4 or 8 "
            f"bits; got {list(codes.shape)}; give x and out_features the sizes of the weight that was packed"
        )
    shape = (high, groups_of(columns, group), ROWS)
    for name, values, dtypes in (("scale", scale, SCALES), ("zero", zero, ZEROS)):
        if values is not None:
            check_dtype(op, name, values, dtypes)
            if tuple(values.shape) != shape:
                raise ValueError(f"{op}: {name} must be {list(shape)} in groups of {group}; got {list(values.shape)}")
