# SPDX-License-Identifier: Apache-2.0
"""The product of a training step whose operands are real numbers, times a scale per output channel.

As autograd follows the two, but without a second tensor as large as the outputs, forward or backward: y is scaled where
it lies, and the scale goes into the weight for its gradients (`product_gradients`). So y has torch's bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.nn.geometry import Geometry, accumulate
from bittern.nn.product_gradients import differentiable, gradients, over_outputs


def scaled_product(x: Tensor, w: Tensor, scale: Tensor, geometry: Geometry) -> Tensor:
    """fl(accumulate(x, w, geometry) * scale), scale [out] or [1], for operands that `sign_product.may_take` takes."""
    y: Tensor = _ScaledProduct.apply(x, w, scale, geometry)  # type: ignore[no-untyped-call]
    return y


class _ScaledProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, scale: Tensor, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, w, scale)
        ctx.geometry = geometry
        y = accumulate(x, w, geometry)
        return y.mul_(over_outputs(scale, y.ndim))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, w, scale = ctx.saved_tensors
        work_out = differentiable if torch.is_grad_enabled() else gradients
        return *work_out(grads[0], x, w, scale, ctx.geometry, ctx.needs_input_grad[:3]), None
