# SPDX-License-Identifier: Apache-2.0
"""`sign_products` on the CPU: large ones counted from packed bits, matrix by matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._isa import Isa
from bittern.ops.binary_matmul.cpu import PreparedMatmul
from bittern.ops.pack_signs.cpu import pack_signs_cpu
from bittern.ops.sign_products.reference import signs

LEAST_COUNTED = 2**21
"""Multiply-accumulates of one matrix from which packing and counting takes less time than torch's float product."""


def sign_products_cpu(isa: Isa, a: Tensor, b: Tensor) -> Tensor:
    m, n, k = a.shape[-2], b.shape[-2], a.shape[-1]
    if m * n * k < LEAST_COUNTED:
        return (signs(a, torch.float32) @ signs(b, torch.float32).transpose(-2, -1)).contiguous()
    y = torch.empty((*a.shape[:-1], n), dtype=torch.float32)
    rows, columns = pack_signs_cpu(isa, a), pack_signs_cpu(isa, b)
    words = rows.shape[-1]
    pairs = zip(rows.view(-1, m, words), columns.view(-1, n, words), y.view(-1, m, n), strict=True)
    for left, right, out in pairs:
        out.copy_(PreparedMatmul(right, k, isa=isa)(left))
    return y
