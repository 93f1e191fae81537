# SPDX-License-Identifier: Apache-2.0
"""What readers of operators share: options, integers of one scale, constants, limits and factors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bittern.compat.tflite.build import UnsupportedError
from bittern.compat.tflite.file import Operator, Value
from bittern.compat.tflite.flatbuffer import Table

SAME = 0
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
BOUNDS = {NONE: (-math.inf, math.inf), RELU: (0.0, math.inf), RELU_N1_TO_1: (-1.0, 1.0), RELU6: (0.0, 6.0)}


def options(operator: Operator) -> Table:
    if operator.options is None:
        raise UnsupportedError("it has no options")
    return operator.options


def constant(value: Value, kind: str) -> Tensor:
    if value.constant is None or value.type != kind:
        what = "computed" if value.constant is None else value.type
        raise UnsupportedError(f"tensor {value.name!r} must be {kind} numbers of the file; it is {what}")
    return value.constant


def limits(activation: int, out: Value) -> dict[str, int]:
    """Between which integers a fused activation holds a result."""
    if activation not in BOUNDS:
        raise UnsupportedError(f"its fused activation is number {activation}; there are {list(BOUNDS)}")
    least, most = BOUNDS[activation]
    low = -128 if least == -math.inf else max(-128, quantized(least, out))
    high = 127 if most == math.inf else min(127, quantized(most, out))
    return {"low": low, "high": high}


def quantized(real: float, out: Value) -> int:
    """zero + round(real / scale) in float32, halves away from zero."""
    quotient = float(np.float32(real) / np.float32(out.scale))
    return out.zero + int(math.copysign(math.floor(abs(quotient) + 0.5), quotient))


def one_padding(kind: int, size: int, out: int, kernel: int, stride: int, dilation: int) -> list[int]:
    """[before, after] along one dimension; where the two differ, more comes after."""
    if kind != SAME:
        return [0, 0]
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return [total // 2, total - total // 2]


def paddings(
    kind: int, x: Value, out: Value, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """[left, right, top, bottom]."""
    sides = [one_padding(kind, x.shape[1 + i], out.shape[1 + i], kernel[i], stride[i], dilation[i]) for i in range(2)]
    return [*sides[1], *sides[0]]


def factor_tensors(multipliers: Sequence[int], shifts: Sequence[int]) -> dict[str, Tensor]:
    return {
        "multiplier": torch.tensor(multipliers, dtype=torch.int32),
        "shift": torch.tensor(shifts, dtype=torch.int32),
    }


def need_one_scale(*values: Value) -> None:
    if len({(value.type, value.scales, value.zeros) for value in values}) > 1:
        names = ", ".join(repr(value.name) for value in values)
        raise UnsupportedError(f"tensors {names} must have one type, scale and zero point")


def whole_numbers(value: Value) -> list[int]:
    """The numbers of a constant of int32 or int64."""
    if value.type not in ("int32", "int64"):
        raise UnsupportedError(f"tensor {value.name!r} must be whole numbers of the file; it is {value.type}")
    return [int(number) for number in constant(value, value.type).flatten().tolist()]
