# SPDX-License-Identifier: Apache-2.0
"""What `linear_4bit` and `linear_4bit_backward` ask of a packed weight."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype
from bittern.ops.quantize_blockwise.check import check_absmax, check_block_size


def check_weight(
    op: str, packed: Tensor, absmax: Tensor, code: Tensor, block_size: int, rows: int, columns: int
) -> None:
    """A weight [rows, columns] as `quantize_4bit` packs it; its table may have any order."""
    if rows < 0 or columns < 0:
        raise ValueError(f"{op}: features must not be negative; got {rows} out and {columns} in; pass the weight's")
    check_dtype(op, "packed", packed, (torch.uint8,))
    check_block_size(op, block_size)
    n = rows * columns
    if packed.numel() != -(-n // 2):
        raise ValueError(
            f"{op}: packed must hold {-(-n // 2)} bytes for a weight [{rows}, {columns}]; got {packed.numel()}; "
            f"give x and out_features the sizes of the weight that was packed"
        )
    check_absmax(op, absmax, n, block_size)
    check_dtype(op, "code", code, (torch.float32,))
    if tuple(code.shape) != (16,):
        raise ValueError(f"{op}: code must be one row of 16 entries; got shape {list(code.shape)}; see codebooks")
