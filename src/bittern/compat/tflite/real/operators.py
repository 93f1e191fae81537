# SPDX-License-Identifier: Apache-2.0
"""What each operator of TensorFlow Lite becomes in a network of float32: one function an operator."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern.compat.real_network import Function, Mean, MeanOfImage, Pad, Resize, Two
from bittern.compat.tflite.build import TO_CHANNELS_FIRST, UnsupportedError, need_dims
from bittern.compat.tflite.file import Operator, Value
from bittern.compat.tflite.operators.common import constant, options, paddings, whole_numbers
from bittern.compat.tflite.operators.layout import CHANNELS_FIRST_DIM
from bittern.compat.tflite.operators.resize import corners_of
from bittern.compat.tflite.real.build import RealBuilder
from bittern.deploy.kinds.kind import IMAGE_DIMS

RELU_N1_TO_1, TANH = 2, 4
ACTIVATIONS: dict[int, Callable[[], nn.Module]] = {
    1: nn.ReLU,
    RELU_N1_TO_1: lambda: nn.Hardtanh(-1.0, 1.0),
    3: nn.ReLU6,
    TANH: nn.Tanh,
}
"""Fused ones, by their number."""


def _finish(builder: RealBuilder, operator: Operator, value: int, activation: int, *, image: bool) -> None:
    """A fused activation, and the note of what was written."""
    if activation:
        if activation not in ACTIVATIONS:
            raise UnsupportedError(f"its fused activation is number {activation}; there are 0, {list(ACTIVATIONS)}")
        value = builder.add(ACTIVATIONS[activation](), "activation", (value,))
    builder.wrote(operator, value, image=image)


def _ends(builder: RealBuilder, operator: Operator) -> tuple[Value, Value]:
    """What it reads first, and what it writes."""
    x, out = (builder.movable(builder.value(p)) for p in (operator.inputs[0], operator.outputs[0]))
    return x, out


# -- products ----------------------------------------------------------------------------------------------------


def conv(builder: RealBuilder, operator: Operator) -> None:
    """CONV_2D: weight [out, height, width, in / groups]."""
    _conv(builder, operator, (3, 4, 5), (0, 3, 1, 2))


def depthwise(builder: RealBuilder, operator: Operator) -> None:
    """DEPTHWISE_CONV_2D: weight [1, height, width, in * multiplier]."""
    _conv(builder, operator, (4, 5, 6), (3, 0, 1, 2))


def _conv(builder: RealBuilder, operator: Operator, fields: tuple[int, int, int], order: tuple[int, ...]) -> None:
    x, out = _ends(builder, operator)
    weight = builder.value(operator.inputs[1])
    need_dims(IMAGE_DIMS, x, out, weight)
    numbers, given = constant(weight, "float32").permute(order), options(operator)
    outputs, per_group, *kernel = numbers.shape
    if x.shape[-1] % per_group or outputs % (x.shape[-1] // per_group):
        raise UnsupportedError(f"weight {weight.name!r} has {per_group} inputs a group, of {x.shape[-1]}")
    stride = (given.number(2, "i"), given.number(1, "i"))
    dilation = (given.number(fields[2], "i", 1), given.number(fields[1], "i", 1))
    _need_above_0(*stride, *dilation)
    left, right, top, bottom = paddings(given.number(0, "b"), x, out, kernel, stride, dilation)
    even = left == right and top == bottom
    value = builder.image(operator.inputs[0])
    if not even:
        value = builder.padded("padding", value, IMAGE_DIMS, [left, right, top, bottom], 0.0)
    groups = x.shape[-1] // per_group
    layer = nn.Conv2d(
        x.shape[-1], outputs, (kernel[0], kernel[1]), stride, (top, left) if even else 0, dilation, groups
    )
    _fill(builder, operator, layer, numbers)
    value = builder.add(layer, out.name, (value,))
    _finish(builder, operator, value, given.number(fields[0], "b"), image=True)


def transposed(builder: RealBuilder, operator: Operator) -> None:
    """TRANSPOSE_CONV: size of the result, weight [out, height, width, in], input, bias."""
    if whole_numbers(builder.value(operator.inputs[0])) != list(builder.value(operator.outputs[0]).shape):
        raise UnsupportedError("its result must have the size that it says")
    given = options(operator)
    stride = (given.number(2, "i"), given.number(1, "i"))
    as_conv = replace(operator, inputs=(operator.inputs[2], operator.inputs[1], *operator.inputs[3:]))
    _transposed(builder, as_conv, stride, given.number(3, "b"))


def mediapipe_transposed(builder: RealBuilder, operator: Operator) -> None:
    """MediaPipe's Convolution2DTransposeBias: input, weight [out, height, width, in], bias; options are three int32."""
    if len(operator.custom) < OPTIONS_OF_TRANSPOSED.size:
        raise UnsupportedError(f"its options must be three numbers; they have {len(operator.custom)} bytes")
    _, across, down = OPTIONS_OF_TRANSPOSED.unpack_from(operator.custom)
    _transposed(builder, operator, (down, across), 0)


OPTIONS_OF_TRANSPOSED = struct.Struct("<3i")
"""Which padding, of which the size of the result says as much, and the strides along rows and columns."""


def _transposed(builder: RealBuilder, operator: Operator, stride: tuple[int, int], activation: int) -> None:
    """Of operators that read input, weight and bias."""
    place = operator.inputs[0]
    x, out = (builder.movable(builder.value(p)) for p in (place, operator.outputs[0]))
    weight = builder.value(operator.inputs[1])
    need_dims(IMAGE_DIMS, x, out, weight)
    _need_above_0(*stride)
    kernel = weight.shape[1:3]
    if (weight.shape[0], weight.shape[3]) != (out.shape[3], x.shape[3]):
        raise UnsupportedError(f"weight {weight.name!r} must be [{out.shape[3]}, height, width, {x.shape[3]}]")
    rows = list(zip(x.shape[1:3], stride, kernel, out.shape[1:3], strict=True))
    wholes = [(size - 1) * s + k for size, s, k, _ in rows]
    before = [max(whole - result, 0) // 2 for whole, (*_, result) in zip(wholes, rows, strict=True)]
    (top, bottom), (left, right) = (
        (-b, result + b - whole) for b, whole, (*_, result) in zip(before, wholes, rows, strict=True)
    )
    if max(bottom, right) > 0:
        raise UnsupportedError("its result must be no larger than its windows reach")
    layer = nn.ConvTranspose2d(x.shape[-1], out.shape[-1], (kernel[0], kernel[1]), stride)
    _fill(builder, operator, layer, constant(weight, "float32").permute(3, 0, 1, 2))
    value = builder.add(layer, out.name, (builder.image(place),))
    if amount := [left, right, top, bottom] if any((left, right, top, bottom)) else []:
        value = builder.add(Pad(amount), out.name, (value,))
    _finish(builder, operator, value, activation, image=True)


def linear(builder: RealBuilder, operator: Operator) -> None:
    """FULLY_CONNECTED: weight [out, in]."""
    x, out = _ends(builder, operator)
    weight, given = builder.value(operator.inputs[1]), options(operator)
    need_dims(2, weight)
    if given.number(1, "b") or out.shape[:1] != (1,) or out.shape[-1] != weight.shape[0]:
        raise UnsupportedError("weights must lie in the default format, and rows are samples")
    numbers, place = constant(weight, "float32"), operator.inputs[0]
    features = weight.shape[1]
    pixel = builder.is_image(place) and x.shape[1:3] == (1, 1)
    value = builder.taken(place, image=pixel)
    rows = (features,) if len(out.shape) == 2 else (*out.shape[1:-1], features)
    if pixel or x.shape[1:] != rows:
        value = builder.reshaped("rows", value, len(x.shape), rows)
    layer = nn.Linear(features, weight.shape[0])
    _fill(builder, operator, layer, numbers)
    _finish(builder, operator, builder.add(layer, out.name, (value,)), given.number(0, "b"), image=False)


def _fill(
    builder: RealBuilder, operator: Operator, layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear, numbers: Tensor
) -> None:
    """Weights and bias of the file."""
    assert layer.bias is not None
    layer.weight = nn.Parameter(numbers.contiguous().clone())
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        bias = constant(builder.value(operator.inputs[2]), "float32")
        if bias.shape != layer.bias.shape:
            raise UnsupportedError(f"its bias must have {layer.bias.numel()} numbers; got {list(bias.shape)}")
        layer.bias = nn.Parameter(bias.clone())
    else:
        layer.register_parameter("bias", None)


def _need_above_0(*sizes: int) -> None:
    if min(sizes) < 1:
        raise UnsupportedError(f"strides, dilations and windows must be 1 or more; got {list(sizes)}")


# -- two values ---------------------------------------------------------------------------------------------------

TWO: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]] = {
    "ADD": (torch.add, True),
    "SUB": (torch.sub, True),
    "MUL": (torch.mul, True),
    "DIV": (torch.div, True),
    "MAXIMUM": (torch.maximum, False),
    "MINIMUM": (torch.minimum, False),
}
"""The function, and whether the operator may have an activation."""


def two(builder: RealBuilder, operator: Operator) -> None:
    """A function of two values, one of which may be numbers of the file; shapes follow numpy's rule."""
    function, active = TWO[operator.name]
    _, out = _ends(builder, operator)
    values = [builder.movable(builder.value(place)) for place in operator.inputs]
    activation = operator.options.number(0, "b") if active and operator.options is not None else 0
    computed = [place for place, value in zip(operator.inputs, values, strict=True) if value.constant is None]
    image = bool(computed) and len(out.shape) == IMAGE_DIMS and builder.all_images(computed)
    if not computed or any(len(builder.value(place).shape) != len(out.shape) for place in computed):
        raise UnsupportedError("it must read a computed value of as many dimensions as its result")
    inputs = [builder.taken(place, image=image) for place in computed]
    layer = Two(function)
    if len(computed) == 1:
        at = next(index for index, value in enumerate(values) if value.constant is not None)
        layer = Two(function, _constant(values[at], len(out.shape), image=image), first=at == 0)
    _finish(builder, operator, builder.add(layer, out.name, inputs), activation, image=image)


def _constant(value: Value, dims: int, *, image: bool) -> Tensor:
    """Numbers of the file with as many dimensions, in the order in which values lie."""
    numbers = constant(value, "float32")
    if numbers.ndim > dims:
        raise UnsupportedError(f"tensor {value.name!r} must have at most {dims} dimensions")
    numbers = numbers.view(*(1,) * (dims - numbers.ndim), *numbers.shape)
    return (numbers.permute(TO_CHANNELS_FIRST) if image else numbers).contiguous().clone()


# -- each number by itself ----------------------------------------------------------------------------------------


def _leaky(operator: Operator) -> nn.Module:
    return nn.LeakyReLU(options(operator).number(0, "f"))


def _gelu(operator: Operator) -> nn.Module:
    approximate = operator.options is not None and operator.options.number(0, "?", False)
    return nn.GELU("tanh" if approximate else "none")


ONE: dict[str, Callable[[Operator], nn.Module]] = {
    "RELU": lambda operator: nn.ReLU(),
    "RELU6": lambda operator: nn.ReLU6(),
    "RELU_N1_TO_1": lambda operator: nn.Hardtanh(-1.0, 1.0),
    "RELU_0_TO_1": lambda operator: nn.Hardtanh(0.0, 1.0),
    "LOGISTIC": lambda operator: nn.Sigmoid(),
    "TANH": lambda operator: nn.Tanh(),
    "HARD_SWISH": lambda operator: nn.Hardswish(),
    "ELU": lambda operator: nn.ELU(),
    "LEAKY_RELU": _leaky,
    "GELU": _gelu,
    "ABS": lambda operator: Function(torch.abs),
    "NEG": lambda operator: Function(torch.neg),
    "EXP": lambda operator: Function(torch.exp),
    "LOG": lambda operator: Function(torch.log),
    "SQRT": lambda operator: Function(torch.sqrt),
    "RSQRT": lambda operator: Function(torch.rsqrt),
    "SQUARE": lambda operator: Function(torch.square),
}


def one(builder: RealBuilder, operator: Operator) -> None:
    _, out = _ends(builder, operator)
    place = operator.inputs[0]
    image = builder.is_image(place)
    value = builder.add(ONE[operator.name](operator), out.name, (builder.taken(place, image=image),))
    builder.wrote(operator, value, image=image)


def prelu(builder: RealBuilder, operator: Operator) -> None:
    """PRELU with a slope for each channel of an image, or one."""
    x, out = _ends(builder, operator)
    need_dims(IMAGE_DIMS, x)
    slopes = constant(builder.value(operator.inputs[1]), "float32")
    if slopes.numel() not in (1, x.shape[-1]) or slopes.shape[-1] != slopes.numel():
        raise UnsupportedError(f"its slopes must be one a channel, or one; got {list(slopes.shape)}")
    layer = nn.PReLU(slopes.numel())
    layer.weight = nn.Parameter(slopes.flatten().clone())
    builder.wrote(operator, builder.add(layer, out.name, (builder.image(operator.inputs[0]),)), image=True)


def softmax(builder: RealBuilder, operator: Operator) -> None:
    _, out = _ends(builder, operator)
    beta = options(operator).number(0, "f")
    value = builder.as_filed(operator.inputs[0])
    if beta != 1.0:
        value = builder.add(Two(torch.mul, torch.tensor(beta, dtype=torch.float32)), "beta", (value,))
    builder.wrote(operator, builder.add(nn.Softmax(-1), out.name, (value,)), image=False)


# -- windows ------------------------------------------------------------------------------------------------------


def average_pool(builder: RealBuilder, operator: Operator) -> None:
    _pool(builder, operator, _average)


def max_pool(builder: RealBuilder, operator: Operator) -> None:
    _pool(builder, operator, _maximum)


Layers = Callable[[Value, Sequence[int], Sequence[int], Sequence[int]], list[nn.Module]]
"""Layers of a pool, from its input, kernel, stride and paddings."""


def _pool(builder: RealBuilder, operator: Operator, layers: Layers) -> None:
    x, out = _ends(builder, operator)
    need_dims(IMAGE_DIMS, x, out)
    given = options(operator)
    stride, kernel = ([given.number(field, "i") for field in fields] for fields in ((2, 1), (4, 3)))
    _need_above_0(*stride, *kernel)
    value = builder.image(operator.inputs[0])
    for layer in layers(x, kernel, stride, paddings(given.number(0, "b"), x, out, kernel, stride, (1, 1))):
        value = builder.add(layer, out.name, (value,))
    _finish(builder, operator, value, given.number(5, "b"), image=True)


def _pair(sizes: Sequence[int]) -> tuple[int, int]:
    return sizes[0], sizes[1]


def _average(x: Value, kernel: Sequence[int], stride: Sequence[int], amount: Sequence[int]) -> list[nn.Module]:
    if not any(amount):
        return [nn.AvgPool2d(_pair(kernel), _pair(stride))]
    counts = F.avg_pool2d(
        F.pad(torch.ones(1, 1, *x.shape[1:3]), tuple(amount)), _pair(kernel), _pair(stride), divisor_override=1
    )
    return [MeanOfImage(kernel, stride, amount, 1 / counts)]


def _maximum(x: Value, kernel: Sequence[int], stride: Sequence[int], amount: Sequence[int]) -> list[nn.Module]:
    left, right, top, bottom = amount
    if left == right and top == bottom:
        return [nn.MaxPool2d(_pair(kernel), _pair(stride), (top, left))]
    return [Pad(amount, torch.finfo(torch.float32).min), nn.MaxPool2d(_pair(kernel), _pair(stride))]


def mean(builder: RealBuilder, operator: Operator) -> None:
    """MEAN along dimensions other than the batch."""
    x, out = _ends(builder, operator)
    dims, place = len(x.shape), operator.inputs[0]
    axes = sorted({axis % dims for axis in whole_numbers(builder.value(operator.inputs[1]))})
    if not axes or axes[0] == 0:
        raise UnsupportedError(f"it must leave the batch alone; got dimensions {axes} of {dims}")
    keep = bool(options(operator).number(0, "?", False))
    image = builder.is_image(place)
    value = builder.taken(place, image=image)
    own = [CHANNELS_FIRST_DIM[axis] for axis in axes] if image else axes
    if image and not keep and axes != [1, 2]:  # what is left would lie in another order than the file's
        image, value, own = False, builder.as_filed(place), axes
    value = builder.add(Mean(own, keep=keep), out.name, (value,))
    builder.wrote(operator, value, image=image and keep)


def resize_bilinear(builder: RealBuilder, operator: Operator) -> None:
    """RESIZE_BILINEAR, with its three ways to place pixels."""
    x, out = _ends(builder, operator)
    need_dims(IMAGE_DIMS, x, out)
    layer = Resize(out.shape[1:3], corners_of(operator))
    builder.wrote(operator, builder.add(layer, out.name, (builder.image(operator.inputs[0]),)), image=True)
