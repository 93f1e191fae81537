# SPDX-License-Identifier: Apache-2.0
"""Signs with a learned threshold per channel (ReActNet's RSign, 2003.03488)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern import ops
from bittern.estimators.functions import estimate, in_order, is_transformed, lies_channels_last, once, out_of_order
from bittern.estimators.origin import note_origin
from bittern.estimators.records import ApproxSign


def shifted_sign(x: Tensor, shift: Tensor) -> Tensor:
    """sign(x + shift_c) with ApproxSign's derivative; the sum is not kept.

    x: [batch, channels, *space]; shift: [channels].
    dL/dx = g * max(0, 2 - 2|x + shift_c|), dL/dshift_c = the sum of that over the channel.
    """
    asks = torch.is_grad_enabled() and (x.requires_grad or shift.requires_grad)
    if not asks or x.dtype != shift.dtype or torch.compiler.is_exporting() or is_transformed():
        return estimate(_shifted(x, shift), ApproxSign())
    result: Tensor = _ShiftedSign.apply(x, shift)  # type: ignore[no-untyped-call]
    return result


class _ShiftedSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, shift)
        note_origin(ctx, _values, x, shift)
        return _values(x, shift)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, shift = ctx.saved_tensors
        grad = grads[0]
        if torch.is_grad_enabled():  # the result may be differentiated again
            at = _shifted(x, shift)
            slope = ops.approx_sign_gradient(torch.ones_like(grad), at.detach())
            to_x = grad * once(at, slope)
            return to_x, to_x.sum((0, *range(2, x.ndim)))
        last = lies_channels_last(x)
        to_x, to_shift = ops.shifted_sign_gradient.direct(_channels(grad, last), _channels(x, last), shift)
        return _like(x, to_x, last), to_shift


def _values(x: Tensor, shift: Tensor) -> Tensor:
    """The signs, in the layout of x."""
    last = lies_channels_last(x)
    return _like(x, ops.shifted_sign.direct(_channels(x, last), shift), last)


def _shifted(x: Tensor, shift: Tensor) -> Tensor:
    return x + shift.view(1, -1, *(1,) * (x.ndim - 2))


def _channels(x: Tensor, last: bool) -> Tensor:
    """[outer, channels, inner] in the order of memory."""
    if last:
        return in_order(x, last).reshape(-1, x.shape[1], 1)
    return x.reshape(*x.shape[:2], x.shape[2:].numel())


def _like(x: Tensor, channels: Tensor, last: bool) -> Tensor:
    """What `_channels` would make these of, in the layout of x."""
    return out_of_order(channels.view(in_order(x, last).shape), last)
