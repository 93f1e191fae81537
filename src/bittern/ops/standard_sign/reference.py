# SPDX-License-Identifier: Apache-2.0
"""The meaning of `standard_sign` and its gradient in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops.sign.reference import sign_reference
from bittern.ops.sign_slopes.reference import approx_sign_slope


def standard_sign_reference(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """sign(x), and the mean and the reciprocal of the standard deviation of each sample."""
    over = tuple(range(1, x.ndim))
    mean = x.mean(over, keepdim=True)
    variance = (x - mean).square().sum(over) / (x.shape[1:].numel() - 1)
    return sign_reference(x), torch.stack([mean.flatten(), 1.0 / torch.sqrt(variance + epsilon)], 1)


def standard_sign_gradient_reference(grad: Tensor, x: Tensor, statistics: Tensor) -> Tensor:
    """The gradient of sign(x / std) to x, where that of the sign is ApproxSign's."""
    over = tuple(range(1, x.ndim))
    mean, inv = (part.view(-1, *(1,) * len(over)) for part in statistics.unbind(1))
    d = grad * approx_sign_slope(x * inv)
    through_deviation = (d * x).sum(over, keepdim=True) * inv**3 / (x.shape[1:].numel() - 1)
    return (d * inv - (x - mean) * through_deviation).contiguous()
