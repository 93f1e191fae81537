# SPDX-License-Identifier: Apache-2.0
"""`flat_bits`, `rows_of_bits` and `from_flat_bits` by native code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import words_for
from bittern.ops._isa import Isa, chosen_isa, threads


def flat_bits(x: Tensor, low: float, isa: Isa | None = None) -> Tensor | None:
    """The bits of x, or None where it holds another number than 1 and low."""
    laid_out = x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))
    if x.dtype != torch.float32 or not x.is_cpu or not laid_out:
        raise ValueError(
            f"flat_bits: x must be float32 on the CPU, contiguous or channels-last; got {x.dtype} on {x.device} with "
            f"strides {x.stride()}; call x.contiguous()"
        )
    n = x.numel()
    bits = torch.empty(words_for(n), dtype=torch.int64, device="cpu")
    isa = chosen_isa() if isa is None else isa
    return bits if _native.flat_bits(isa, threads(), x.data_ptr(), n, low, bits.data_ptr()) else None


def rows_of_bits(bits: Tensor, rows: int, columns: int, isa: Isa | None = None) -> Tensor:
    """The bits row by row; those that lie so already are not copied."""
    words = words_for(columns)
    if columns == words * 64:
        return bits.view(rows, words)
    out = torch.empty((rows, words), dtype=torch.int64, device="cpu")
    isa = chosen_isa() if isa is None else isa
    _native.rows_of_bits(isa, threads(), bits.data_ptr(), rows, columns, out.data_ptr())
    return out


def from_flat_bits(
    bits: Tensor, shape: Sequence[int], stride: Sequence[int], low: float, isa: Isa | None = None
) -> Tensor:
    """1 for a bit, low for none, in a tensor without gaps."""
    out = torch.empty_strided(shape, stride, dtype=torch.float32, device="cpu")
    isa = chosen_isa() if isa is None else isa
    _native.from_flat_bits(isa, threads(), bits.data_ptr(), out.numel(), low, out.data_ptr())
    return out
