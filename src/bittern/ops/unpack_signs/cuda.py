# SPDX-License-Identifier: Apache-2.0
"""`unpack_signs` on CUDA, by Triton: a program reads one word per row and writes rows x 64 elements."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import WORD_BITS
from bittern.ops._triton import launch, tl, triton

_ROWS = 32
"""Rows per program."""


@triton.jit
def _unpack_kernel(
    packed: tl.tensor,
    out: tl.tensor,
    rows: tl.tensor,
    length: tl.tensor,
    words: tl.tensor,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    word = tl.program_id(0) % words
    row = (tl.program_id(0) // words).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    place = tl.arange(0, BITS)
    column = word * BITS + place
    values = tl.load(packed + row * words + word, mask=row < rows, other=0)
    bits = (values[:, None] >> place[None, :].to(tl.int64)) & 1
    signs = tl.where(bits == 1, 1.0, -1.0).to(out.dtype.element_ty)
    mask = (row < rows)[:, None] & (column < length)[None, :]
    tl.store(out + row[:, None] * length + column[None, :], signs, mask=mask)


def unpack_signs_cuda(words: Tensor, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    words = words.contiguous()
    out = torch.empty((*words.shape[:-1], length), dtype=dtype, device=words.device)
    per_row = words.shape[-1]
    rows = words.numel() // per_row
    if rows:
        blocks = triton.cdiv(rows, _ROWS) * per_row
        launch(_unpack_kernel, blocks, out, words, out, rows, length, per_row, BITS=WORD_BITS, ROWS=_ROWS)
    return out
