# SPDX-License-Identifier: Apache-2.0
"""The meaning of a sign with a threshold per channel, and of its gradients, in plain torch."""

from __future__ import annotations

from torch import Tensor

from bittern.ops.sign.reference import sign_reference
from bittern.ops.sign_slopes.reference import approx_sign_gradient_reference


def shifted_sign_reference(x: Tensor, shift: Tensor) -> Tensor:
    """sign(x + shift)."""
    return sign_reference(x + shift.view(1, -1, 1))


def shifted_sign_gradient_reference(grad: Tensor, x: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Of x: ApproxSign's at x + shift; of shift: the sum of that over all but the channels."""
    to_x = approx_sign_gradient_reference(grad, x + shift.view(1, -1, 1))
    return to_x, to_x.sum((0, 2))
