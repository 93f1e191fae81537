# SPDX-License-Identifier: Apache-2.0
"""The meaning of a sign with a learned noise, and of its gradients, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.adapted_sign.arguments import AdaptedArguments, AdaptedGradientArguments
from bittern.ops.sign.reference import sign_reference
from bittern.ops.sign_slopes.arguments import FourierArguments
from bittern.ops.sign_slopes.reference import fourier_gradient_reference


def adapted_sign_reference(a: AdaptedArguments) -> Tensor:
    """sign(x) + alpha * (relu(x down^T) up^T + amplitude * sin(x))."""
    alpha = a.alpha.to(a.x.dtype)
    noise = torch.relu(a.x @ a.down.t()) @ (alpha * a.up).t()
    return sign_reference(a.x) + (noise + alpha * a.amplitude * torch.sin(a.x))


def adapted_sign_gradient_reference(a: AdaptedGradientArguments) -> tuple[Tensor, Tensor, Tensor]:
    """Of x: through the series, the wave and the hidden numbers; of down and up: as of any linear layer."""
    alpha = a.alpha.to(a.x.dtype)
    before = a.x @ a.down.t()
    reached = (a.grad @ (alpha * a.up)).masked_fill(before <= 0.0, 0.0)
    through = FourierArguments(a.grad, a.x, a.terms, a.omega, a.limit, a.rising, alpha * a.amplitude)
    to_x = fourier_gradient_reference(through) + reached @ a.down
    return to_x, reached.t() @ a.x, alpha * (a.grad.t() @ torch.relu(before))
