# SPDX-License-Identifier: Apache-2.0
"""A sign with a learned noise on CUDA: as the reference has it.

It needs sines of a stated error, which Triton's approximate ones do not promise.
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops.adapted_sign.arguments import AdaptedArguments, AdaptedGradientArguments
from bittern.ops.adapted_sign.reference import adapted_sign_gradient_reference, adapted_sign_reference


def adapted_sign_cuda(a: AdaptedArguments) -> Tensor:
    return adapted_sign_reference(a)


def adapted_sign_gradient_cuda(a: AdaptedGradientArguments) -> tuple[Tensor, Tensor, Tensor]:
    return adapted_sign_gradient_reference(a)
