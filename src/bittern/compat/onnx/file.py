# SPDX-License-Identifier: Apache-2.0
"""What an ONNX file holds, checked: one graph, whose numbers lie in the file and have the bytes that they claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

MOST_VALUES = 2**31
MOST_DIMS = 8
TYPES = {1: "<f4", 3: "i1", 6: "<i4", 7: "<i8"}
"""Types of numbers that are read, by ONNX's number: float32, int8, int32, int64."""
LISTS = {1: "float_data", 3: "int32_data", 6: "int32_data", 7: "int64_data"}


class UnreadError(ValueError):
    """What is damaged, or is not read."""


Known = TypeVar("Known")


@dataclass(frozen=True)
class Operator:
    """One node: the names that it reads ("" for what is left out) and writes, and its attributes."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]

    def read(self, known: Mapping[str, Known], place: int) -> Known | None:
        """What an input stands for; None: it is left out. Raises: UnreadError for what nothing wrote."""
        name = self.inputs[place] if place < len(self.inputs) else ""
        if not name:
            return None
        if name not in known:
            raise UnreadError(f"it reads {name!r}, which nothing wrote")
        return known[name]


@dataclass(frozen=True)
class Network:
    """The graph of a file."""

    operators: tuple[Operator, ...]
    constants: Mapping[str, Tensor]
    input: str
    shape: tuple[int, ...]
    """Of one sample."""
    type: str
    outputs: tuple[str, ...]
    opset: int = 18
    """Of ONNX's own operators."""


def _text(name: Any) -> str:
    """A name. Raises: UnreadError for bytes that are no text, which protobuf hands on as they are."""
    if not isinstance(name, str):
        raise UnreadError(f"it has the name {bytes(name)[:40]!r}, which is no text")
    return name


def read_network(data: bytes) -> Network:
    """The graph of a file. Raises: UnreadError."""
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, RecursionError) as error:
        raise UnreadError(f"it is no ONNX file: {error}") from error
    graph = model.graph
    if model.functions or graph.sparse_initializer:
        raise UnreadError("it has functions of its own or sparse numbers, which are not read")
    constants = {_text(tensor.name): _tensor(tensor) for tensor in graph.initializer}
    operators = []
    for node in graph.node:
        if node.op_type == "Constant" and len(node.output) == 1:
            constants[_text(node.output[0])] = _constant(node)
        else:
            operators.append(_operator(node))
    inputs = [given for given in graph.input if given.name not in constants]
    if len(inputs) != 1 or not len(graph.output):
        raise UnreadError(f"it has {len(inputs)} inputs and {len(graph.output)} results; one input is read")
    shape, kind = _input(inputs[0])
    results = tuple(_text(end.name) for end in graph.output)
    opset = max((own.version for own in model.opset_import if own.domain in ("", "ai.onnx")), default=1)
    return Network(tuple(operators), constants, _text(inputs[0].name), shape, kind, results, opset)


def _input(given: Any) -> tuple[tuple[int, ...], str]:
    """(sizes of one sample, type) of the input."""
    own = given.type.tensor_type
    kinds = {1: "float32", 3: "int8"}
    sizes = [dim.dim_value for dim in own.shape.dim]
    if own.elem_type not in kinds or not 2 <= len(sizes) <= MOST_DIMS:
        raise UnreadError(f"its input must be float32 or int8 [batch, ...]; got type {own.elem_type}, sizes {sizes}")
    if sizes[0] not in (0, 1) or min(sizes[1:]) < 1 or math.prod(sizes[1:]) > MOST_VALUES:
        raise UnreadError(f"its input must be a batch of any size, or 1, of known sizes; got {sizes}")
    return tuple(sizes[1:]), kinds[own.elem_type]


def _operator(node: Any) -> Operator:
    if node.domain not in ("", "ai.onnx", "com.microsoft"):
        raise UnreadError(f"it has the operator {node.op_type} of {node.domain!r}, which is not read")
    inputs, outputs = (tuple(_text(name) for name in names) for names in (node.input, node.output))
    attrs = {_text(attribute.name): _attribute(attribute) for attribute in node.attribute}
    return Operator(_text(node.op_type), inputs, outputs, attrs)


def _attribute(attribute: Any) -> Any:
    """A number, a text, or a list of numbers; None for others."""
    match attribute.type:
        case 1:
            return float(attribute.f)
        case 2:
            return int(attribute.i)
        case 3:
            return attribute.s.decode("utf-8", errors="replace")
        case 6:
            return [float(f) for f in attribute.floats]
        case 7:
            return [int(i) for i in attribute.ints]
    return None


def _constant(node: Any) -> Tensor:
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.type == 4:
            return _tensor(attribute.t)
    raise UnreadError("a constant must be a tensor")


def _tensor(tensor: Any) -> Tensor:
    """The numbers of a tensor, all of which must lie in the file."""
    shape, name = [int(size) for size in tensor.dims], tensor.name
    if tensor.external_data or tensor.data_location:
        raise UnreadError(f"tensor {name!r} lies in another file; save the model with its numbers inside")
    if tensor.data_type not in TYPES or len(shape) > MOST_DIMS:
        raise UnreadError(f"tensor {name!r} has the type {tensor.data_type}, {len(shape)} dimensions; not read")
    count = math.prod(shape)
    if any(size < 0 for size in shape) or count > MOST_VALUES:
        raise UnreadError(f"tensor {name!r} has the shape {shape}")
    dtype = np.dtype(TYPES[tensor.data_type])
    if tensor.raw_data:
        if len(tensor.raw_data) != count * dtype.itemsize:
            raise UnreadError(f"tensor {name!r} of {shape} has {len(tensor.raw_data)} bytes")
        return torch.from_numpy(np.frombuffer(tensor.raw_data, dtype).reshape(shape).copy())
    numbers: Sequence[Any] = getattr(tensor, LISTS[tensor.data_type])
    if len(numbers) != count:
        raise UnreadError(f"tensor {name!r} of {shape} has {len(numbers)} numbers")
    if dtype.kind == "i" and count and not np.iinfo(dtype).min <= min(numbers) <= max(numbers) <= np.iinfo(dtype).max:
        raise UnreadError(f"tensor {name!r} has numbers beyond its type")
    return torch.from_numpy(np.array(numbers, dtype).reshape(shape))
