# SPDX-License-Identifier: Apache-2.0
"""`binary_matmul` on the CPU, by native code, and its weights prepared for repeated use."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import words_for
from bittern.ops._isa import Isa, chosen_isa, threads


class PreparedMatmul:
    """`binary_matmul` with a fixed b, laid out once in the order in which this CPU's kernel reads it.

    b: int64 [n, ceil(k / 64)]. Call with packed a [..., ceil(k / 64)] -> int32, or float32 if it has an epilogue.
    """

    def __init__(self, b: Tensor, k: int, epilogue: Tensor | None = None, isa: Isa | None = None) -> None:
        self.isa = chosen_isa() if isa is None else isa
        self.n, self.k = b.shape[0], k
        self.epilogue = None if epilogue is None else epilogue.contiguous()
        b = b.contiguous()
        size = _native.prepared_bytes(self.isa, self.n, 1, k, 1)
        self.weights = torch.empty(size, dtype=torch.uint8)
        _native.prepare_weights(self.isa, b.data_ptr(), self.n, 1, k, 1, self.weights.data_ptr())

    def __call__(self, a: Tensor) -> Tensor:
        a = a.contiguous()
        if a.shape[-1] != words_for(self.k):
            raise ValueError(f"binary_matmul: a must have {words_for(self.k)} words a row; got {a.shape[-1]}")
        dtype = torch.int32 if self.epilogue is None else torch.float32
        out = torch.empty((*a.shape[:-1], self.n), dtype=dtype, device="cpu")
        _native.binary_matmul(
            self.isa,
            threads(),
            a.data_ptr(),
            a.numel() // a.shape[-1],
            self.k,
            self.weights.data_ptr(),
            self.n,
            0 if self.epilogue is None else self.epilogue.data_ptr(),
            out.data_ptr(),
        )
        return out


def binary_matmul_cpu(isa: Isa, a: Tensor, b: Tensor, k: int, epilogue: Tensor | None = None) -> Tensor:
    return PreparedMatmul(b, k, epilogue, isa)(a)
