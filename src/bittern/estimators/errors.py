# SPDX-License-Identifier: Apache-2.0
"""Gradients on a grid: the error of a tensor shifted by a power of two and rounded, as integers carry it (WAGE)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bittern.estimators.functions import once
from bittern.ops.powers_of_two import on_grid, shifted


class _QuantizedError(torch.autograd.Function):
    """The identity, whose gradient is shifted and put on a grid."""

    @staticmethod
    def forward(y: Tensor, bits: int) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.bits = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        g = grads[0]
        return once(g, on_grid(shifted(g.detach()), ctx.bits), "a rounded error"), None


def quantized_error(y: Tensor, bits: int) -> Tensor:
    """y, whose gradient g becomes Q(C(g / Shift(max |g|))) on the grid of `bits` bits: its size is thrown away.

    The maximum is that of the whole tensor. Gradients of zeros stay zeros; NaN and infinity become NaN.
    Source: arXiv 1802.04680.
    """
    result: Tensor = _QuantizedError.apply(y, bits)  # type: ignore[no-untyped-call]
    return result
