# SPDX-License-Identifier: Apache-2.0
"""What `linear_4bit` and `linear_4bit_backward` ask of a packed weight."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype
from bittern.ops.nested import NESTED_BLOCK
from bittern.ops.quantize_blockwise.check import check_absmax, check_block_size


def check_weight(
    op: str,
    packed: Tensor,
    absmax: Tensor,
    code: Tensor,
    block_size: int,
    rows: int,
    columns: int,
    scales: Tensor | None,
    offset: Tensor | None,
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
    _check_scales(op, absmax, n, block_size, scales, offset)
    check_dtype(op, "code", code, (torch.float32,))
    if tuple(code.shape) != (16,):
        raise ValueError(f"{op}: code must be one row of 16 entries; got shape {list(code.shape)}; see codebooks")


def _check_scales(
    op: str, absmax: Tensor, n: int, block_size: int, scales: Tensor | None, offset: Tensor | None
) -> None:
    """In float32, or in bytes: nested with `scales` and `offset`, exponents without."""
    if (scales is None) != (offset is None):
        missing = "absmax_scales" if scales is None else "absmax_offset"
        raise ValueError(f"{op}: absmax_scales and absmax_offset belong together; got no {missing}; pass both or none")
    if scales is None and absmax.dtype != torch.uint8:
        check_absmax(op, absmax, n, block_size)
        return
    check_dtype(op, "absmax", absmax, (torch.uint8,))
    blocks = -(-n // block_size)
    if tuple(absmax.shape) != (blocks,):
        raise ValueError(
            f"{op}: absmax must be [{blocks}], one per block of {block_size} of {n} elements; got {list(absmax.shape)}"
        )
    if scales is None or offset is None:
        return
    check_dtype(op, "absmax_scales", scales, (torch.float32,))
    check_dtype(op, "absmax_offset", offset, (torch.float32,))
    nested = -(-blocks // NESTED_BLOCK)
    if tuple(scales.shape) != (nested,) or offset.ndim:
        raise ValueError(
            f"{op}: absmax_scales must be [{nested}], one per {NESTED_BLOCK} of {blocks} absmax, and absmax_offset one "
            f"number []; got {list(scales.shape)} and {list(offset.shape)}; see quantize_absmax"
        )
