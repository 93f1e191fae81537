# SPDX-License-Identifier: Apache-2.0
"""`binary_matmul` on CUDA, by Triton: a tile of rows x columns, a loop over the words of k.

acc = k - 2 * popcount(a xor b)
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._triton import fold_epilogue, launch, load_words, popcount, tile_size, tl, triton


# A constant count of one word would unroll the loop, and then LLVM no longer sees the popcount in `2 * popcount`.
@triton.jit(do_not_specialize=["words"])
def _matmul_kernel(
    a: tl.tensor,
    b: tl.tensor,
    epilogue: tl.tensor,
    out: tl.tensor,
    m: tl.tensor,
    n: tl.tensor,
    k: tl.tensor,
    words: tl.tensor,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    tiles = tl.cdiv(n, COLUMNS)
    row = (tl.program_id(0) // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    left, right = a + row * words, b + column.to(tl.int64) * words
    differ = tl.zeros((ROWS, COLUMNS), dtype=tl.int32)
    for i in range(words):
        differ += popcount(load_words(left + i, row < m)[:, None] ^ load_words(right + i, column < n)[None, :])
    acc = k - 2 * differ
    target = out + row[:, None] * n + column[None, :]
    mask = (row < m)[:, None] & (column < n)[None, :]
    if epilogue is None:
        tl.store(target, acc, mask=mask)
    else:
        tl.store(target, fold_epilogue(acc, epilogue, column, n), mask=mask)


def binary_matmul_cuda(a: Tensor, b: Tensor, k: int, epilogue: Tensor | None = None) -> Tensor:
    a, b = a.contiguous(), b.contiguous()
    words, n = b.shape[1], b.shape[0]
    m = a.numel() // words
    dtype = torch.int32 if epilogue is None else torch.float32
    out = torch.empty((*a.shape[:-1], n), dtype=dtype, device=a.device)
    if out.numel():
        rows, columns = tile_size(m), tile_size(n)
        folded = None if epilogue is None else epilogue.contiguous()
        blocks = triton.cdiv(m, rows) * triton.cdiv(n, columns)
        launch(_matmul_kernel, blocks, out, a, b, folded, out, m, n, k, words, ROWS=rows, COLUMNS=columns)
    return out
