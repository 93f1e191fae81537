# SPDX-License-Identifier: Apache-2.0
"""The meaning of `binary_matmul` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._epilogue import apply_epilogue
from bittern.ops.unpack_signs.reference import unpack_signs_reference


def binary_matmul_reference(a: Tensor, b: Tensor, k: int, epilogue: Tensor | None = None) -> Tensor:
    """acc[..., j] = sum_i a[..., i] * b[j, i] over the k values of +-1, then the epilogue if there is one."""
    left = unpack_signs_reference(a, k, torch.float64)
    right = unpack_signs_reference(b, k, torch.float64)
    return apply_epilogue((left @ right.T).to(torch.int32), epilogue)
