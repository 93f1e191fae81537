# SPDX-License-Identifier: Apache-2.0
"""A sign with a threshold per channel on CUDA: torch's own operations, as the reference has them."""

from __future__ import annotations

from torch import Tensor

from bittern.ops.shifted_sign.reference import shifted_sign_gradient_reference, shifted_sign_reference


def shifted_sign_cuda(x: Tensor, shift: Tensor) -> Tensor:
    return shifted_sign_reference(x, shift)


def shifted_sign_gradient_cuda(grad: Tensor, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    return shifted_sign_gradient_reference(grad, x, shift)
