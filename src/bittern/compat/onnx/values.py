# SPDX-License-Identifier: Apache-2.0
"""What a name of the file stands for while it is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bittern.compat.onnx.file import Operator, UnreadError


@dataclass(frozen=True)
class Integers:
    """int8 numbers with a scale: a value of the program, or numbers of the file, whose scales may be one a channel."""

    value: int = -1
    numbers: Tensor | None = None
    scales: tuple[float, ...] = (1.0,)
    zero: int = 0
    axis: int = 0
    real: bool = False
    """Whether it stands behind a DequantizeLinear, for the real numbers that it means."""

    @property
    def scale(self) -> float:
        if len(self.scales) != 1:
            raise UnreadError("it must have one scale")
        return self.scales[0]


@dataclass(frozen=True)
class Real:
    """A real value of the program: its input."""

    value: int


@dataclass(frozen=True)
class Pending:
    """A real operator of integers, computed when its result is quantized; what an activation leaves of it."""

    operator: Operator
    operands: tuple[Integers | Tensor | None, ...]
    low: float = float("-inf")
    high: float = float("inf")

    def within(self, low: float, high: float) -> Pending:
        return replace(self, low=max(self.low, low), high=min(self.high, high))


def grid(scale: Tensor, zero: Tensor | None) -> tuple[tuple[float, ...], int]:
    """Scales above 0, and one zero point of int8, 0 if it is left out. Raises: UnreadError."""
    if scale.dtype != torch.float32 or scale.ndim > 1 or not scale.numel():
        raise UnreadError("a scale must be one number of float32, or one a channel")
    scales = tuple(float(s) for s in scale.flatten())
    if not all(0 < s < float("inf") for s in scales):
        raise UnreadError("scales must be finite and above 0")
    if zero is None:
        return scales, 0
    zeros = {int(z) for z in zero.flatten()}
    if zero.dtype not in (torch.int8, torch.int32) or len(zeros) != 1 or (zero.dtype != torch.int8 and zeros != {0}):
        raise UnreadError(
            "zero points must be int8 and the same for all channels; quantize activations to int8 (QInt8)"
        )
    return scales, zeros.pop()
