# SPDX-License-Identifier: Apache-2.0
"""The meaning of `map_images` in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.ops._epilogue import fused_multiply_add
from bittern.ops.map_images.operation import MapOperation, MapStep


def map_images_reference(
    x: Tensor, steps: Sequence[MapStep], residual: Tensor | None = None, factor: Tensor | None = None
) -> Tensor:
    """float32 like x [batch, height, width, channels]; operands: the same, or [batch, 1, 1, channels]."""
    for step in steps:
        x = _applied(x, step, residual, factor)
    return x


def _applied(y: Tensor, step: MapStep, residual: Tensor | None, factor: Tensor | None) -> Tensor:
    none = torch.empty(0)
    rows: list[Tensor] = [none] * 4 if step.rows is None else [*step.rows, none, none, none, none]
    p, q, r, s = rows[:4]
    residual, factor = none if residual is None else residual, none if factor is None else factor
    match step.operation:
        case MapOperation.AFFINE:
            return fused_multiply_add(y, p, q)
        case MapOperation.RELU:
            return torch.relu(y)
        case MapOperation.CLAMP:
            return torch.minimum(torch.maximum(y, p), q)
        case MapOperation.PRELU:
            return torch.where(y > 0, y, p * y)
        case MapOperation.RPRELU:
            t = y - p
            return torch.where(t > 0, t, q * t) + r
        case MapOperation.DPRELU:
            t = y - p
            return torch.where(t >= 0, q, r) * t - s
        case MapOperation.HARD_SIGMOID:
            return (y + 3).clamp(0, 6) / 6
        case MapOperation.ADD_RESIDUAL:
            return y + residual
        case MapOperation.ADD_MAPPED:
            return y + fused_multiply_add(residual, p, q)
        case MapOperation.MULTIPLY_RESIDUAL:
            return y * residual
        case MapOperation.ADD_FACTOR:
            return y + factor
        case MapOperation.MULTIPLY_FACTOR:
            return y * factor
