# SPDX-License-Identifier: Apache-2.0
"""`scaled_gradient` on CUDA: torch's own operations, as the reference has them."""

from __future__ import annotations

from torch import Tensor

from bittern.ops.scaled_gradient.reference import scaled_gradient_reference


def scaled_gradient_cuda(grad: Tensor, y: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    return scaled_gradient_reference(grad, y, factor)
