# SPDX-License-Identifier: Apache-2.0
"""binary_matmul(a, b, k, epilogue=None): product of two packed +-1 matrices, exact.

a: int64 [..., ceil(k / 64)], b: int64 [n, ceil(k / 64)], both packed along k (`pack_signs`), surplus bits 0.
-> int32 [..., n]: acc = sum over k of a * b, in [-k, k], of the parity of k;
with epilogue float32 [4, n] -> float32: y = fma(fl(fl(acc + offset) * scale), alpha, beta).
Errors: TypeError / ValueError for wrong dtypes, shapes, k = 0 or k > 2^24.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_epilogue, check_same_device, check_words
from bittern.ops._op import Op, lazily
from bittern.ops.binary_matmul.cpu import PreparedMatmul, binary_matmul_cpu
from bittern.ops.binary_matmul.reference import binary_matmul_reference

__all__ = ["PreparedMatmul", "binary_matmul"]


def _check(a: Tensor, b: Tensor, k: int, epilogue: Tensor | None = None) -> None:
    if not 1 <= k <= 2**24:
        raise ValueError(f"binary_matmul: k must lie in [1, 2^24], where float32 is exact; got {k}")
    check_words("binary_matmul", "a", a, k)
    check_words("binary_matmul", "b", b, k)
    if b.ndim != 2:
        raise ValueError(f"binary_matmul: b must be [n, words]; got {list(b.shape)}")
    check_same_device("binary_matmul", a=a, b=b, epilogue=epilogue)
    check_epilogue("binary_matmul", epilogue, b.shape[0])


def _fake(a: Tensor, b: Tensor, k: int, epilogue: Tensor | None = None) -> Tensor:
    dtype = torch.int32 if epilogue is None else torch.float32
    return a.new_empty((*a.shape[:-1], b.shape[0]), dtype=dtype)


binary_matmul: Op[Tensor] = Op(
    "binary_matmul(Tensor a, Tensor b, int k, Tensor? epilogue=None) -> Tensor",
    check=_check,
    reference=binary_matmul_reference,
    fake=_fake,
    cpu=binary_matmul_cpu,
    cuda=lazily("bittern.ops.binary_matmul.cuda", "binary_matmul_cuda"),
)
