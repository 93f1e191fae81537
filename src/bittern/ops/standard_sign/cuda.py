# SPDX-License-Identifier: Apache-2.0
"""`standard_sign` and its gradient on CUDA: torch's own operations, whose reductions no kernel here would beat."""

from __future__ import annotations

from torch import Tensor

from bittern.ops.standard_sign.reference import standard_sign_gradient_reference, standard_sign_reference


def standard_sign_cuda(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    return standard_sign_reference(x, epsilon)


def standard_sign_gradient_cuda(grad: Tensor, x: Tensor, statistics: Tensor) -> Tensor:
    return standard_sign_gradient_reference(grad, x, statistics)
