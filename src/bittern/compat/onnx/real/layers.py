# SPDX-License-Identifier: Apache-2.0
"""What becomes of each operator that computes: one function an operator, layers of torch where there is one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bittern.compat.onnx.file import Operator, UnreadError
from bittern.compat.onnx.real import windows
from bittern.compat.onnx.real.reader import Computed, Reader
from bittern.compat.real_network import Concatenate, Function, Mean, Two

Emit = Callable[[Reader, Operator], int]
"""(reader, operator) -> the value that it writes."""


# -- products and norms ------------------------------------------------------------------------------------------


def gemm(reader: Reader, operator: Operator) -> int:
    """alpha x w + beta b, of rows."""
    weight, bias = windows.weight_of(reader, operator)
    attrs = operator.attrs
    if attrs.get("transA", 0) or weight.ndim != 2:
        raise UnreadError("it must multiply rows with a matrix of the file")
    weight = weight if attrs.get("transB", 0) else weight.T
    weight = weight * attrs.get("alpha", 1.0)
    if bias is not None:
        bias = bias.broadcast_to(1, len(weight))[0] * attrs.get("beta", 1.0)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return reader.add(windows.filled(layer, weight, bias), operator.outputs[0], (reader.value(operator),))


def matmul(reader: Reader, operator: Operator) -> int:
    weight = reader.at(operator, 1)
    if isinstance(weight, Computed):
        inputs = (reader.value(operator), reader.value(operator, 1))
        return reader.add(Two(torch.matmul), operator.outputs[0], inputs)
    if weight is None or weight.ndim != 2:
        raise UnreadError("it must multiply by a matrix of the file, or by one that is computed")
    layer = nn.Linear(weight.shape[0], weight.shape[1], False)
    return reader.add(windows.filled(layer, weight.T, None), operator.outputs[0], (reader.value(operator),))


def batch_norm(reader: Reader, operator: Operator) -> int:
    numbers = [reader.constant(operator, place) for place in range(1, 5)]
    dims = len(reader.shape(operator))
    if any(t is None or t.ndim != 1 for t in numbers) or dims not in (2, 3, 4) or len(operator.outputs) != 1:
        raise UnreadError("it must be of statistics of the file, and have one result")
    layers: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}
    sizes = {len(t) for t in numbers if t is not None}
    layer = layers[dims](reader.shape(operator)[1], eps=operator.attrs.get("epsilon", 1e-5))
    if sizes != {layer.num_features}:
        raise UnreadError(f"it must have {layer.num_features} numbers of each kind")
    roles = ("weight", "bias", "running_mean", "running_var")
    layer.load_state_dict(dict(zip(roles, numbers, strict=True)), strict=False)
    return reader.add(layer.eval(), operator.outputs[0], (reader.value(operator),))


def layer_norm(reader: Reader, operator: Operator) -> int:
    shape = reader.shape(operator)
    axis = operator.attrs.get("axis", -1) % len(shape)
    weight, bias = reader.constant(operator, 1), reader.constant(operator, 2)
    if weight is None or axis == 0 or tuple(weight.shape) != shape[axis:] or len(operator.outputs) != 1:
        raise UnreadError("it must have a weight of the shape of a row, and one result")
    layer = nn.LayerNorm(shape[axis:], eps=operator.attrs.get("epsilon", 1e-5), bias=bias is not None)
    return reader.add(windows.filled(layer, weight, bias), operator.outputs[0], (reader.value(operator),))


# -- two values --------------------------------------------------------------------------------------------------

TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
    "Pow": torch.pow,
    "Max": torch.maximum,
    "Min": torch.minimum,
}


def two(reader: Reader, operator: Operator) -> int:
    """A function of two values, one of which may be numbers of the file."""
    given = [reader.at(operator, place) for place in range(2)]
    computed = [place for place, x in enumerate(given) if isinstance(x, Computed)]
    if len(operator.inputs) != 2 or not computed:
        raise UnreadError("it must read two values, one of which is computed")
    inputs = [reader.value(operator, place) for place in computed]
    layer = Two(TWO[operator.name])
    if len(computed) == 1:
        constant = given[1 - computed[0]]
        assert isinstance(constant, Tensor)
        if constant.dtype != torch.float32 or constant.ndim > len(reader.shape(operator, computed[0])):
            raise UnreadError("its numbers must be float32, of no more dimensions than the value")
        layer = Two(TWO[operator.name], constant.clone(), first=computed[0] == 1)
    return reader.add(layer, operator.outputs[0], inputs)


def concatenate(reader: Reader, operator: Operator) -> int:
    axis = _no_batch(operator.attrs.get("axis", 1), len(reader.shape(operator)))
    inputs = [reader.value(operator, place) for place in range(len(operator.inputs))]
    return reader.add(Concatenate(axis), operator.outputs[0], inputs)


# -- each number by itself ---------------------------------------------------------------------------------------


def _hard_sigmoid(operator: Operator) -> nn.Module:
    alpha, beta = operator.attrs.get("alpha", 0.2), operator.attrs.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return nn.Hardsigmoid()
    return Function(lambda x: (x * alpha + beta).clamp(0.0, 1.0))


ONE: dict[str, Callable[[Operator], nn.Module]] = {
    "Relu": lambda operator: nn.ReLU(),
    "Sigmoid": lambda operator: nn.Sigmoid(),
    "Tanh": lambda operator: nn.Tanh(),
    "HardSwish": lambda operator: nn.Hardswish(),
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": lambda operator: nn.LeakyReLU(operator.attrs.get("alpha", 0.01)),
    "Elu": lambda operator: nn.ELU(operator.attrs.get("alpha", 1.0)),
    "Softplus": lambda operator: nn.Softplus(),
    "Gelu": lambda operator: nn.GELU(operator.attrs.get("approximate", "none")),
    "Erf": lambda operator: Function(torch.erf),
    "Exp": lambda operator: Function(torch.exp),
    "Log": lambda operator: Function(torch.log),
    "Sqrt": lambda operator: Function(torch.sqrt),
    "Reciprocal": lambda operator: Function(torch.reciprocal),
    "Abs": lambda operator: Function(torch.abs),
    "Neg": lambda operator: Function(torch.neg),
}


def one(reader: Reader, operator: Operator) -> int:
    return reader.add(ONE[operator.name](operator), operator.outputs[0], (reader.value(operator),))


def clip(reader: Reader, operator: Operator) -> int:
    """Between two numbers, one, or none."""
    ends = []
    for place, key in ((1, "min"), (2, "max")):
        found = reader.constant(operator, place)
        if found is not None and found.numel() != 1:
            raise UnreadError("limits must be one number each")
        ends.append(operator.attrs.get(key) if found is None else float(found))
    low, high = ends
    layer: nn.Module = Function(partial(torch.clamp, min=low, max=high))
    if low is None and high is None:
        layer = nn.Identity()
    elif low == 0 and high == 6:
        layer = nn.ReLU6()
    elif low is not None and high is not None and low < high:
        layer = nn.Hardtanh(low, high)
    elif low == 0 and high is None:
        layer = nn.ReLU()
    return reader.add(layer, operator.outputs[0], (reader.value(operator),))


def prelu(reader: Reader, operator: Operator) -> int:
    slopes, shape = reader.constant(operator, 1), reader.shape(operator)
    if (
        slopes is None
        or slopes.numel() not in (1, shape[1])
        or (slopes.numel() > 1 and (slopes.ndim != len(shape) - 1 or slopes.shape[0] != shape[1]))
    ):
        raise UnreadError("its slopes must be one, or one a channel")
    layer = nn.PReLU(slopes.numel())
    layer.weight = nn.Parameter(slopes.flatten().clone())
    return reader.add(layer, operator.outputs[0], (reader.value(operator),))


def softmax(reader: Reader, operator: Operator) -> int:
    """Before version 13 rows are all dimensions from the axis on; read where these are one."""
    dims = len(reader.shape(operator))
    axis = _no_batch(operator.attrs.get("axis", -1 if reader.opset >= 13 else 1), dims)
    if reader.opset < 13 and math.prod(reader.shape(operator)[axis + 1 :]) != 1:
        raise UnreadError("its rows must be one dimension")
    layer: nn.Module = nn.LogSoftmax(axis) if operator.name == "LogSoftmax" else nn.Softmax(axis)
    return reader.add(layer, operator.outputs[0], (reader.value(operator),))


# -- sums over dimensions ----------------------------------------------------------------------------------------


def global_average(reader: Reader, operator: Operator) -> int:
    dims = len(reader.shape(operator)) - 2
    layers: dict[int, Any] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}
    if dims not in layers:
        raise UnreadError("it must be over 1 or 2 dimensions")
    return reader.add(layers[dims](1), operator.outputs[0], (reader.value(operator),))


def mean(reader: Reader, operator: Operator) -> int:
    dims = len(reader.shape(operator))
    axes = reader.whole_numbers(operator, 1, "axes")
    if not axes:
        raise UnreadError("it must name its dimensions, not the batch")
    own = sorted(_no_batch(axis, dims) for axis in axes)
    layer = Mean(own, keep=bool(operator.attrs.get("keepdims", 1)))
    return reader.add(layer, operator.outputs[0], (reader.value(operator),))


def _no_batch(axis: int, dims: int) -> int:
    if not -dims <= axis < dims or axis % dims == 0:
        raise UnreadError(f"it must work along a dimension other than the batch; got {axis} of {dims}")
    return axis % dims


LAYERS: dict[str, Emit] = {
    "Conv": windows.conv,
    "ConvTranspose": windows.transposed,
    "MaxPool": windows.max_pool,
    "AveragePool": windows.average_pool,
    "Pad": windows.pad,
    "Resize": windows.resize,
    "Upsample": windows.resize,
    "Gemm": gemm,
    "MatMul": matmul,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "Concat": concatenate,
    "Clip": clip,
    "PRelu": prelu,
    "Softmax": softmax,
    "LogSoftmax": softmax,
    "GlobalAveragePool": global_average,
    "ReduceMean": mean,
    **dict.fromkeys(TWO, two),
    **dict.fromkeys(ONE, one),
}
"""By the operator's name."""
