# SPDX-License-Identifier: Apache-2.0
"""`pack_signs` on CUDA, by Triton: a program reads rows x 64 elements and adds up the bits of one word per row."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import WORD_BITS, words_for
from bittern.ops._triton import launch, tl, triton, widen

_ROWS = 32
"""Rows per program."""


@triton.jit
def _pack_kernel(
    x: tl.tensor,
    threshold: tl.tensor,
    out: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    words: tl.tensor,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    word = tl.program_id(0) % words
    row = (tl.program_id(0) // words).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    place = tl.arange(0, BITS)
    column = word * BITS + place
    mask = (row < rows)[:, None] & (column < columns)[None, :]
    values = widen(tl.load(x + row[:, None] * columns + column[None, :], mask=mask, other=0))
    if threshold is None:
        bits = (values >= 0) & mask
    else:
        bits = (values >= tl.load(threshold + column, mask=column < columns, other=0)[None, :]) & mask
    # the bits of one word are disjoint, so a sum is an "or"; bit 63 is the sign bit of int64
    packed = tl.sum(bits.to(tl.int64) << place[None, :].to(tl.int64), axis=1)
    tl.store(out + row * words + word, packed, mask=row < rows)


def pack_signs_cuda(x: Tensor, threshold: Tensor | None = None) -> Tensor:
    x = x.contiguous()
    columns = x.shape[-1]
    rows, words = x.numel() // columns, words_for(columns)
    out = torch.empty((*x.shape[:-1], words), dtype=torch.int64, device=x.device)
    if rows:
        limits = None if threshold is None else threshold.contiguous()
        blocks = triton.cdiv(rows, _ROWS) * words
        launch(_pack_kernel, blocks, out, x, limits, out, rows, columns, words, BITS=WORD_BITS, ROWS=_ROWS)
    return out
