# SPDX-License-Identifier: Apache-2.0
"""`linear_8bit` on CUDA: the codes of the inputs by torch, the exact product and its scales by Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._triton import launch, tl, triton, widen
from bittern.ops.linear_8bit.arguments import Linear8bitArguments
from bittern.ops.linear_8bit.reference import LEVELS, outlier_columns, outlier_product, row_codes, without_columns
from bittern.ops.quantize_blockwise.cuda import narrow

_TILE = {"INPUTS": 16, "OUT": 64, "SUM": 64}


@triton.jit(do_not_specialize=["m", "n", "k"])
def _int8_kernel(  # type: ignore[no-untyped-def]
    codes, step, weight, scale, extra, bias, out, m, n, k,
    INPUTS: tl.constexpr, OUT: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """int32(codes . weight) * step * scale [+ extra] [+ bias] for a tile of inputs x results."""
    tiles = tl.cdiv(n, OUT)
    row = (tl.program_id(0) // tiles).to(tl.int64) * INPUTS + tl.arange(0, INPUTS)
    o = (tl.program_id(0) % tiles).to(tl.int64) * OUT + tl.arange(0, OUT)
    total = tl.zeros((INPUTS, OUT), tl.int32)
    for start in range(0, k, SUM):
        s = start + tl.arange(0, SUM).to(tl.int64)
        number = tl.load(codes + row[:, None] * k + s[None, :], mask=(row < m)[:, None] & (s < k)[None, :], other=0)
        value = tl.load(weight + o[None, :] * k + s[:, None], mask=(o < n)[None, :] & (s < k)[:, None], other=0)
        total += tl.dot(number, value, out_dtype=tl.int32)
    mask = (row < m)[:, None] & (o < n)[None, :]
    place = row[:, None] * n + o[None, :]
    y = total.to(tl.float32) * tl.load(step + row, mask=row < m, other=0.0)[:, None]
    y = y * tl.load(scale + o, mask=o < n, other=0.0)[None, :]
    if extra is not None:
        y += tl.load(extra + place, mask=mask, other=0.0)
    if bias is not None:
        y += widen(tl.load(bias + o, mask=o < n, other=0.0))[None, :]
    tl.store(out + place, narrow(y, out.dtype.element_ty), mask=mask)


def linear_8bit_cuda(a: Linear8bitArguments) -> Tensor:
    x, weight, scale, bias, threshold = a
    n, k = weight.shape
    columns = outlier_columns(x, threshold)
    codes, step = row_codes(without_columns(x, columns))
    out = torch.empty((*x.shape[:-1], n), dtype=x.dtype, device=x.device)
    if out.numel():
        launch(
            _int8_kernel,
            triton.cdiv(len(codes), _TILE["INPUTS"]) * triton.cdiv(n, _TILE["OUT"]),
            out,
            codes.to(torch.int8),
            step.contiguous(),
            weight.contiguous(),
            scale * (1 / LEVELS),
            outlier_product(x, weight, scale, columns).contiguous() if columns.numel() else None,
            None if bias is None else bias.contiguous(),
            out,
            *(len(codes), n, k),
            **_TILE,
        )
    return out
