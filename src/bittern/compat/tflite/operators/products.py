# SPDX-License-Identifier: Apache-2.0
"""Convolutions and linear layers of integers.

Factors are worked out as LiteRT does when it prepares a network: which products are of doubles and which of floats
decides the last bit of a multiplier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from torch import Tensor

from bittern.compat.tflite.build import Builder, UnsupportedError, int8, need_dims
from bittern.compat.tflite.file import Operator, Value
from bittern.compat.tflite.operators.common import constant, factor_tensors, limits, options, paddings, whole_numbers
from bittern.deploy.kinds.kind import IMAGE_DIMS
from bittern.ops.fixed_point import factor_of


def factors(x: Value, weight: Value, out: Value, channels: int) -> dict[str, Tensor]:
    """A fixed-point factor for each output channel."""
    scales = weight.scales if len(weight.scales) > 1 else weight.scales * channels
    found = [factor_of(x.scale * scale / out.scale) for scale in scales]
    return factor_tensors([f.multiplier for f in found], [f.shift for f in found])


def _weights(builder: Builder, operator: Operator, dim: int) -> tuple[Value, Tensor, dict[str, Tensor]]:
    """(the weight, its numbers, the bias if there is one); several scales lie along `dim`."""
    weight = builder.value(operator.inputs[1])
    numbers = constant(weight, "int8")
    if any(weight.zeros) or not weight.scales or (len(weight.scales) > 1 and weight.channel_dim != dim):
        raise UnsupportedError(f"weight {weight.name!r} must have zero points of 0 and scales along dimension {dim}")
    bias: dict[str, Tensor] = {}
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        bias["bias"] = constant(builder.value(operator.inputs[2]), "int32")
    return weight, numbers, bias


def conv(builder: Builder, operator: Operator) -> None:
    """CONV_2D: weight [out, height, width, in / groups]."""
    _conv(builder, operator, 0, (3, 4, 5), lambda numbers, x: numbers.permute(0, 3, 1, 2))


def depthwise(builder: Builder, operator: Operator) -> None:
    """DEPTHWISE_CONV_2D: weight [1, height, width, in * multiplier], outputs of one input beside each other."""
    _conv(builder, operator, 3, (4, 5, 6), lambda numbers, x: numbers.permute(3, 0, 1, 2))


def _conv(
    builder: Builder,
    operator: Operator,
    dim: int,
    fields: tuple[int, int, int],
    turned: Callable[[Tensor, Value], Tensor],
) -> None:
    x, out = (int8(builder.value(place)) for place in (operator.inputs[0], operator.outputs[0]))
    need_dims(IMAGE_DIMS, x, out, builder.value(operator.inputs[1]))
    weight, numbers, bias = _weights(builder, operator, dim)
    given = options(operator)
    activation, *dilated = fields
    stride = [given.number(2, "i"), given.number(1, "i")]
    dilation = [given.number(dilated[1], "i", 1), given.number(dilated[0], "i", 1)]
    numbers = turned(numbers, x).contiguous()
    channels, per_group = numbers.shape[:2]
    if x.shape[-1] % per_group:
        raise UnsupportedError(f"weight {weight.name!r} has {per_group} inputs a group, of {x.shape[-1]}")
    value = builder.add(
        "integer_conv",
        out.name,
        (builder.image(operator.inputs[0]),),
        {"weight": numbers, **bias, **factors(x, weight, out, channels)},
        zero=x.zero,
        out_zero=out.zero,
        once=False,
        stride=stride,
        padding=paddings(given.number(0, "b"), x, out, numbers.shape[2:], stride, dilation),
        dilation=dilation,
        groups=x.shape[-1] // per_group,
        **limits(given.number(activation, "b"), out),
    )
    builder.wrote(operator, value, image=True)


def linear(builder: Builder, operator: Operator) -> None:
    """FULLY_CONNECTED: weight [out, in]; with one scale for all, LiteRT multiplies the two input scales as floats."""
    x, out = (int8(builder.value(place)) for place in (operator.inputs[0], operator.outputs[0]))
    weight, numbers, bias = _weights(builder, operator, 0)
    given = options(operator)
    need_dims(2, out, weight)
    if given.number(1, "b") or out.shape[0] != 1:
        raise UnsupportedError("weights must lie in the default format, and rows are samples")
    if len(weight.scales) == 1:
        product = float(np.float32(x.scale) * np.float32(weight.scale))
        factor = factor_of(product / out.scale)
        found = factor_tensors([factor.multiplier] * len(numbers), [factor.shift] * len(numbers))
    else:
        found = factors(x, weight, out, len(numbers))
    value = builder.add(
        "integer_linear",
        out.name,
        (_rows(builder, operator.inputs[0], numbers.shape[1]),),
        {"weight": numbers, **bias, **found},
        zero=x.zero,
        out_zero=out.zero,
        once=True,
        **limits(given.number(0, "b"), out),
    )
    builder.wrote(operator, value, image=False)


def _rows(builder: Builder, place: int, features: int) -> int:
    """A tensor as [batch, features], which it may be already."""
    shape = builder.value(place).shape
    filed = builder.as_filed(place)
    if len(shape) == 2:
        return filed
    return builder.aten("reshape.default", "rows", (filed,), len(shape), [-1, features])


def transposed(builder: Builder, operator: Operator) -> None:
    """TRANSPOSE_CONV: size of the result, weight [out, height, width, in], input, bias."""
    place = operator.inputs[2]
    x, out = (int8(builder.value(p)) for p in (place, operator.outputs[0]))
    weight, numbers, bias = _weights(
        builder, replace(operator, inputs=(place, *operator.inputs[1:2], *operator.inputs[3:])), 0
    )
    need_dims(IMAGE_DIMS, x, out, weight)
    given = options(operator)
    if given.number(3, "b") or whole_numbers(builder.value(operator.inputs[0])) != list(out.shape):
        raise UnsupportedError("it must have no activation, and the size of its result is a constant")
    stride, kernel = [given.number(2, "i"), given.number(1, "i")], weight.shape[1:3]
    rows = zip(x.shape[1:3], stride, kernel, out.shape[1:3], strict=True)
    before = [max((size - 1) * s + k - result, 0) // 2 for size, s, k, result in rows]
    value = builder.add(
        "integer_transposed_conv",
        out.name,
        (builder.image(place),),
        {"weight": numbers.permute(0, 3, 1, 2).contiguous(), **bias, **factors(x, weight, out, len(numbers))},
        zero=x.zero,
        out_zero=out.zero,
        once=False,
        low=-128,
        high=127,
        stride=stride,
        before=before,
        size=list(out.shape[1:3]),
    )
    builder.wrote(operator, value, image=True)
