# SPDX-License-Identifier: Apache-2.0
"""What a `.tflite` file holds, as records: tensors with their scales, and operators in their order.

Numbers of fields are those of the schema of TensorFlow Lite, version 3 (schema.fbs, Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bittern.compat.tflite.flatbuffer import DamagedError, Table
from bittern.compat.tflite.operator_names import name_of
from bittern.compat.tflite.sparse import spread_out

IDENTIFIER = b"TFL3"
VERSION = 3
MOST_DIMS = 5
MOST_VALUES = 2**31
TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 7: "int16", 9: "int8"}
"""Types that a tensor may have here, by their number; others are refused where they are met."""
DTYPES = {
    "float32": "<f4",
    "float16": "<f2",
    "int32": "<i4",
    "uint8": "u1",
    "int64": "<i8",
    "int16": "<i2",
    "int8": "i1",
}


@dataclass(frozen=True)
class Value:
    """A tensor of the file: a number of its own, or what an operator writes."""

    name: str
    shape: tuple[int, ...]
    """With the batch, which is 1."""
    type: str
    """One of `DTYPES`, or the number of another type."""
    scales: tuple[float, ...] = ()
    """real = scale * (integer - zero); one, or one a channel; none: it is not quantized."""
    zeros: tuple[int, ...] = ()
    channel_dim: int = 0
    """Along which dimension there are several scales."""
    constant: Tensor | None = field(default=None, compare=False)
    """Its numbers, where they lie in the file; those of a sparse tensor are spread out."""

    @property
    def scale(self) -> float:
        return self.scales[0]

    @property
    def zero(self) -> int:
        return self.zeros[0]


@dataclass(frozen=True)
class Operator:
    """One operator: which tensors it reads (-1: left out) and writes, and its options."""

    name: str
    """Of the schema; of an operator that is no part of TensorFlow Lite, what its authors call it."""
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None
    custom: bytes = b""
    """Options of an operator that is no part of TensorFlow Lite."""
    intermediates: tuple[int, ...] = ()
    """Tensors that it makes on its way, of which it reads the scales."""


@dataclass(frozen=True)
class Network:
    """The one graph of a file."""

    values: tuple[Value, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_network(data: bytes) -> Network:
    """The graph of a file. Raises: DamagedError, saying what is wrong with it."""
    model = Table.root(data, IDENTIFIER)
    version = model.number(0, "I")
    if version != VERSION:
        raise DamagedError(f"its version is {version}; this bittern reads version {VERSION}")
    graphs = model.tables(2)
    if len(graphs) != 1:
        raise DamagedError(f"it has {len(graphs)} graphs; networks have one")
    graph, buffers = graphs[0], model.tables(4)
    names = [_name(code) for code in model.tables(1)]
    values = tuple(_value(table, buffers) for table in graph.tables(0))
    operators = tuple(_operator(table, names, len(values)) for table in graph.tables(3))
    inputs, outputs = (_places(graph, part, len(values)) for part in (1, 2))
    return Network(values, operators, inputs, outputs)


def _places(table: Table, part: int, count: int, least: int = 0) -> tuple[int, ...]:
    """Numbers of tensors."""
    found = tuple(int(place) for place in table.numbers(part, "<i4"))
    if not all(least <= place < count for place in found):
        raise DamagedError(f"it names tensors {list(found)[:8]}; there are {count}")
    return found


def _name(code: Table) -> str:
    number = max(code.number(0, "b"), code.number(3, "i"))
    return code.text(1) if name_of(number) == "CUSTOM" else name_of(number)


def _operator(table: Table, names: Sequence[str], values: int) -> Operator:
    index = table.number(0, "I")
    if index >= len(names):
        raise DamagedError(f"an operator has the code number {index}; there are {len(names)} codes")
    inputs, outputs = _places(table, 1, values, least=-1), _places(table, 2, values)
    custom = table.numbers(5, "u1").tobytes()
    return Operator(names[index], inputs, outputs, table.table(4), custom, _places(table, 8, values))


def _value(table: Table, buffers: Sequence[Table]) -> Value:
    name, shape = table.text(3), tuple(int(size) for size in table.numbers(0, "<i4"))
    kind = table.number(1, "b")
    if len(shape) > MOST_DIMS or any(size < 1 for size in shape) or math.prod(shape) > MOST_VALUES:
        raise DamagedError(
            f"tensor {name!r} has the shape {list(shape)}; sizes must be known, and 2^31 numbers at most"
        )
    scales, zeros, dim = _quantization(name, shape, table.table(4))
    found = TYPES.get(kind, f"type {kind}")
    constant = _constant(name, shape, found, table.number(2, "I"), buffers, table.table(6))
    return Value(name, shape, found, scales, zeros, dim, constant)


def _quantization(
    name: str, shape: Sequence[int], table: Table | None
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    if table is None:
        return (), (), 0
    scales = tuple(float(scale) for scale in table.numbers(2, "<f4"))
    zeros = tuple(int(zero) for zero in table.numbers(3, "<i8")) or (0,) * len(scales)
    dim = table.number(6, "i")
    if not scales:
        return (), (), 0
    fits = len(zeros) == len(scales) and all(math.isfinite(scale) and scale > 0 for scale in scales)
    if len(scales) > 1:
        fits = fits and 0 <= dim < len(shape) and shape[dim] == len(scales)
    if not fits:
        raise DamagedError(f"tensor {name!r}: needs one finite scale above 0, or one a channel, each with a zero point")
    return scales, zeros, dim


def _constant(
    name: str, shape: Sequence[int], kind: str, index: int, buffers: Sequence[Table], sparsity: Table | None
) -> Tensor | None:
    """The numbers of a tensor that has some in the file."""
    if index >= len(buffers):
        raise DamagedError(f"tensor {name!r} lies in buffer {index}; there are {len(buffers)}")
    data = buffers[index].numbers(0, "u1")
    if not len(data):
        if buffers[index].number(1, "Q") > 1:
            raise DamagedError(f"tensor {name!r} lies behind the flatbuffer, as in files over 2 GB; these are not read")
        return None
    if kind not in DTYPES:
        return None
    dtype = np.dtype(DTYPES[kind])
    if sparsity is not None:
        return spread_out(name, shape, data, dtype, sparsity)
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise DamagedError(f"tensor {name!r} of {list(shape)} {kind} has {len(data)} bytes")
    return torch.from_numpy(data.view(dtype).reshape(tuple(shape)).copy())
