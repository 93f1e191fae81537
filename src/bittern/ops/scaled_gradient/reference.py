# SPDX-License-Identifier: Apache-2.0
"""The meaning of `scaled_gradient` in plain torch."""

from __future__ import annotations

from torch import Tensor


def scaled_gradient_reference(grad: Tensor, y: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of y * factor to y and to the factor."""
    return (grad * factor).contiguous(), (grad * y).sum(0)
