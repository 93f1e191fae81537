# SPDX-License-Identifier: Apache-2.0
"""Rounding to levels whose gradient depends on the gradient that comes in, not on x alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.estimators.functions import once


class _GradientScaled(torch.autograd.Function):
    """Levels forward; backward as `gradient_scaled_levels` says."""

    @staticmethod
    def forward(levels: Tensor, position: Tensor, top: float, delta: float) -> Tensor:
        return levels.view_as(levels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float, float], output: Tensor) -> None:
        levels, position, ctx.top, ctx.delta = inputs
        ctx.save_for_backward(levels, position)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        levels, position = ctx.saved_tensors
        g = grads[0]
        rest = once(position, (position - levels / ctx.top).detach(), "a gradient scaled by what was rounded away")
        return None, ctx.top * (g + ctx.delta * g.abs() * rest), None, None


def gradient_scaled_levels(levels: Tensor, position: Tensor, top: float, delta: float) -> Tensor:
    """`levels` 0 ... top of a position t in 0 ... 1, bit for bit, with EWGS's gradient (2104.00903).

    With g the gradient of t_q = levels / top: dL/dt = g (1 + delta sign(g) (t - t_q)), where sign(0) = 0 changes
    nothing: g is pushed on where it moves t away from t_q's side, and held back where it moves it there.
    A second derivative is refused (NotImplementedError): what was rounded away is no function to differentiate.
    """
    function = _GradientScaled
    result: Tensor = function.apply(levels.detach(), position, top, delta)  # type: ignore[no-untyped-call]
    return result
