# SPDX-License-Identifier: Apache-2.0
"""What each operator of TensorFlow Lite becomes in a program: one function an operator.

Factors are worked out as LiteRT does when it prepares a network: which products are of doubles and which of floats
decides the last bit of a multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bittern.compat.tflite.build import Builder, UnsupportedError
from bittern.compat.tflite.file import Operator, Value
from bittern.compat.tflite.flatbuffer import DamagedError, Table
from bittern.deploy.kinds.integer.softmax import MOST_ANSWERS
from bittern.deploy.kinds.integer.sums import LEFT_SHIFT
from bittern.deploy.kinds.kind import IMAGE_DIMS
from bittern.ops.fixed_point import EXP_FRACTION_BITS, EXP_INTEGER_BITS, MOST, factor_of

SAME = 0
NONE, RELU, RELU_N1_TO_1, RELU6 = range(4)
BOUNDS = {NONE: (-math.inf, math.inf), RELU: (0.0, math.inf), RELU_N1_TO_1: (-1.0, 1.0), RELU6: (0.0, 6.0)}
MOST_JOINED = 64
SOFTMAX_SCALE, SOFTMAX_ZERO = 1 / 256, -128


def options(operator: Operator) -> Table:
    if operator.options is None:
        raise UnsupportedError("it has no options")
    return operator.options


def int8(value: Value) -> Value:
    """A tensor of int8 with one scale. Raises: UnsupportedError."""
    if value.type != "int8" or len(value.scales) != 1 or not -128 <= value.zero <= 127:
        raise UnsupportedError(
            f"tensor {value.name!r} must be int8 with one scale; got {value.type}, {len(value.scales)} scales"
        )
    return value


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
    low = -128 if least == -math.inf else max(-128, _at(least, out))
    high = 127 if most == math.inf else min(127, _at(most, out))
    return {"low": low, "high": high}


def _at(real: float, out: Value) -> int:
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


def factors(x: Value, weight: Value, out: Value, channels: int) -> dict[str, Tensor]:
    """A fixed-point factor for each output channel."""
    scales = weight.scales if len(weight.scales) > 1 else weight.scales * channels
    found = [factor_of(x.scale * scale / out.scale) for scale in scales]
    return _factor_tensors([f.multiplier for f in found], [f.shift for f in found])


def _factor_tensors(multipliers: Sequence[int], shifts: Sequence[int]) -> dict[str, Tensor]:
    return {
        "multiplier": torch.tensor(multipliers, dtype=torch.int32),
        "shift": torch.tensor(shifts, dtype=torch.int32),
    }


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
        found = _factor_tensors([factor.multiplier] * len(numbers), [factor.shift] * len(numbers))
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


def add(builder: Builder, operator: Operator) -> None:
    """ADD of two computed tensors."""
    places = operator.inputs
    a, b, out = (int8(builder.value(place)) for place in (*places, operator.outputs[0]))
    if a.constant is not None or b.constant is not None or len(a.shape) != len(b.shape):
        raise UnsupportedError("both of its inputs must be computed, of as many dimensions")
    larger = 2.0 * max(a.scale, b.scale)
    attrs: dict[str, Any] = {"zero_a": a.zero, "zero_b": b.zero, "out_zero": out.zero}
    for prefix, real in (
        ("a_", a.scale / larger),
        ("b_", b.scale / larger),
        ("", larger / (2**LEFT_SHIFT * out.scale)),
    ):
        attrs[f"{prefix}multiplier"], attrs[f"{prefix}shift"] = factor_of(real)
    image = all(builder.is_image(place) for place in places)
    taken = builder.image if image else builder.as_filed
    activation = operator.options.number(0, "b") if operator.options else NONE
    inputs = tuple(taken(place) for place in places)
    value = builder.add("integer_add", out.name, inputs, **attrs, **limits(activation, out))
    builder.wrote(operator, value, image=image)


def average_pool(builder: Builder, operator: Operator) -> None:
    _pool(builder, operator, "integer_average")


def max_pool(builder: Builder, operator: Operator) -> None:
    _pool(builder, operator, "integer_max")


def _pool(builder: Builder, operator: Operator, kind: str) -> None:
    x, out = (int8(builder.value(place)) for place in (operator.inputs[0], operator.outputs[0]))
    need_dims(IMAGE_DIMS, x, out)
    need_one_scale(x, out)
    given = options(operator)
    stride, kernel = ([given.number(field, "i") for field in fields] for fields in ((2, 1), (4, 3)))
    padding = paddings(given.number(0, "b"), x, out, kernel, stride, (1, 1))
    held = limits(given.number(5, "b"), out)
    inputs = (builder.image(operator.inputs[0]),)
    value = builder.add(kind, out.name, inputs, kernel=kernel, stride=stride, padding=padding, **held)
    builder.wrote(operator, value, image=True)


def need_dims(dims: int, *values: Value) -> None:
    for value in values:
        if len(value.shape) != dims:
            raise UnsupportedError(f"tensor {value.name!r} must have {dims} dimensions; got {list(value.shape)}")


def need_one_scale(*values: Value) -> None:
    if len({(value.scales, value.zeros) for value in values}) > 1:
        names = ", ".join(repr(value.name) for value in values)
        raise UnsupportedError(f"tensors {names} must have one scale and zero point")


def reshape(builder: Builder, operator: Operator) -> None:
    """RESHAPE, which keeps samples apart."""
    place = operator.inputs[0]
    x, out = builder.value(place), builder.value(operator.outputs[0])
    if x.shape[0] != 1 or not out.shape or out.shape[0] != 1 or math.prod(x.shape) != math.prod(out.shape):
        raise UnsupportedError(f"it must keep the batch of 1 first; it makes {list(out.shape)} of {list(x.shape)}")
    shape = [-1, *out.shape[1:]]
    value = builder.aten("reshape.default", out.name, (builder.as_filed(place),), len(x.shape), shape)
    builder.wrote(operator, value, image=False)


def softmax(builder: Builder, operator: Operator) -> None:
    """SOFTMAX of rows."""
    x, out = (int8(builder.value(place)) for place in (operator.inputs[0], operator.outputs[0]))
    if len(x.shape) != 2 or x.shape[1] > MOST_ANSWERS or (out.scale, out.zero) != (SOFTMAX_SCALE, SOFTMAX_ZERO):
        raise UnsupportedError(
            f"it takes rows of at most {MOST_ANSWERS}, and its result has the scale 1/256 about -128"
        )
    beta = options(operator).number(0, "f")
    factor = factor_of(min(beta * x.scale * 2**EXP_FRACTION_BITS, float(MOST)))
    if factor.shift < 0:
        raise UnsupportedError(f"its scale {x.scale:g} is too small")
    most = (2**EXP_INTEGER_BITS - 1) * 2.0**EXP_FRACTION_BITS / 2**factor.shift
    value = builder.add(
        "integer_softmax",
        out.name,
        (builder.as_filed(operator.inputs[0]),),
        multiplier=factor.multiplier,
        shift=factor.shift,
        least=max(-math.floor(most), -255),
    )
    builder.wrote(operator, value, image=False)


def quantize(builder: Builder, operator: Operator) -> None:
    """QUANTIZE: of real numbers, or from one scale of int8 to another."""
    place = operator.inputs[0]
    x, out = builder.value(place), int8(builder.value(operator.outputs[0]))
    image = builder.is_image(place)
    inputs = ((builder.image if image else builder.as_filed)(place),)
    if x.type == "float32":
        value = builder.add("quantize", out.name, inputs, scale=out.scale, zero=out.zero)
    else:
        multiplier, shift = factor_of(int8(x).scale / out.scale)
        value = builder.add(
            "requantize", out.name, inputs, zero=x.zero, out_zero=out.zero, multiplier=multiplier, shift=shift
        )
    builder.wrote(operator, value, image=image)


def dequantize(builder: Builder, operator: Operator) -> None:
    place = operator.inputs[0]
    x, out = int8(builder.value(place)), builder.value(operator.outputs[0])
    image = builder.is_image(place)
    inputs = ((builder.image if image else builder.as_filed)(place),)
    value = builder.add("dequantize", out.name, inputs, scale=x.scale, zero=x.zero)
    builder.wrote(operator, value, image=image)


def pad(builder: Builder, operator: Operator) -> None:
    """PAD with zeros, which are the zero point."""
    place = operator.inputs[0]
    x, out = (int8(builder.value(p)) for p in (place, operator.outputs[0]))
    need_one_scale(x, out)
    amounts = builder.value(operator.inputs[1])
    rows = constant(amounts, amounts.type).tolist()
    if amounts.type not in ("int32", "int64") or len(rows) != len(x.shape) or any(rows[0]):
        raise UnsupportedError("its amounts must be whole numbers of the file, none of them along the batch")
    amount = [side for row in reversed(rows[1:]) for side in row]
    value = builder.aten("constant_pad_nd.default", out.name, (builder.as_filed(place),), len(x.shape), amount, x.zero)
    builder.wrote(operator, value, image=False)


def concatenate(builder: Builder, operator: Operator) -> None:
    """CONCATENATION of tensors of one scale."""
    values = [int8(builder.value(place)) for place in operator.inputs]
    out = int8(builder.value(operator.outputs[0]))
    need_one_scale(*values, out)
    given = options(operator)
    axis, dims = given.number(0, "i"), len(out.shape)
    if not -dims <= axis < dims or axis % dims == 0 or given.number(1, "b") != NONE or len(values) < 2:
        raise UnsupportedError(f"it must join two or more tensors along a dimension other than the batch; got {axis}")
    inputs = tuple(builder.as_filed(place) for place in operator.inputs)
    value = builder.aten("cat.default", out.name, inputs, dims, axis % dims)
    builder.wrote(operator, value, image=False)


class Reader(NamedTuple):
    """How an operator is read, and how many tensors it reads at least and at most."""

    read: Callable[[Builder, Operator], None]
    least: int = 1
    most: int = 1


READERS = {
    "CONV_2D": Reader(conv, 2, 3),
    "DEPTHWISE_CONV_2D": Reader(depthwise, 2, 3),
    "FULLY_CONNECTED": Reader(linear, 2, 3),
    "ADD": Reader(add, 2, 2),
    "AVERAGE_POOL_2D": Reader(average_pool),
    "MAX_POOL_2D": Reader(max_pool),
    "RESHAPE": Reader(reshape, 1, 2),
    "SOFTMAX": Reader(softmax),
    "QUANTIZE": Reader(quantize),
    "DEQUANTIZE": Reader(dequantize),
    "PAD": Reader(pad, 2, 2),
    "CONCATENATION": Reader(concatenate, 2, MOST_JOINED),
}
"""By the names of the schema."""


def read(builder: Builder, operator: Operator) -> None:
    """Append the nodes of an operator. Raises: UnsupportedError; DamagedError for one that no network can have."""
    reader = READERS[operator.name]
    if not reader.least <= len(operator.inputs) <= reader.most or len(operator.outputs) != 1 or operator.inputs[0] < 0:
        raise DamagedError(f"it reads {len(operator.inputs)} tensors and writes {len(operator.outputs)}")
    try:
        reader.read(builder, operator)
    except (KeyError, IndexError) as error:
        raise DamagedError("it reads what nothing wrote") from error
    except ArithmeticError as error:
        raise DamagedError(f"its scales do not fit together: {error}") from error
