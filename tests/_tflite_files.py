# SPDX-License-Identifier: Apache-2.0
"""Writes `.tflite` files: whole ones of a few operators, for which nobody needs TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bittern.compat.tflite.file import IDENTIFIER
from bittern.compat.tflite.operator_names import NAMES

Fields = dict[int, Any]
"""A table: field number -> (struct code, number), text, array, table, or list of tables."""

VERSIONS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 5} | dict.fromkeys(
    (
        "RESHAPE",
        "SQUEEZE",
        "EXPAND_DIMS",
        "PRELU",
        "HARD_SWISH",
        "RELU_N1_TO_1",
        "RELU_0_TO_1",
        "ELU",
        "DEPTH_TO_SPACE",
        "DENSIFY",
    ),
    1,
)
"""Of operators, from which on they take what is written here; 2 for all others."""
CODES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9}


@dataclass
class Filed:
    """A tensor of a file."""

    shape: Sequence[int]
    type: str = "int8"
    scales: Sequence[float] = (0.5,)
    zeros: Sequence[int] = (0,)
    dim: int = 0
    data: np.ndarray | None = None
    sparsity: Fields | None = None
    variable: bool = False
    """Whether it is a state that stays from one call to the next."""

    def table(self, index: int, buffer: int) -> Fields:
        quantization = {
            2: np.asarray(self.scales, "<f4"),
            3: np.asarray(self.zeros, "<i8"),
            6: ("i", self.dim),
        }
        found: Fields = {
            0: np.asarray(self.shape, "<i4"),
            1: ("b", CODES[self.type]),
            2: ("I", buffer),
            3: f"tensor {index}",
        }
        if self.variable:
            found[5] = ("b", 1)
        found |= {4: quantization} if len(self.scales) else {}
        return found | ({6: self.sparsity} if self.sparsity else {})


@dataclass
class Step:
    """An operator: its name, the tensors it reads and writes, and its options."""

    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: Fields | None = field(default_factory=dict)
    options_type: int = 0
    custom: bytes = b""
    """Options of an operator that is none of the schema."""
    intermediates: Sequence[int] = ()


def file_of(
    tensors: Sequence[Filed], steps: Sequence[Step], inputs: Sequence[int], outputs: Sequence[int], **other: Any
) -> bytes:
    """A file of one graph; other: `version`, `graphs` (how often the graph stands in it)."""
    names = list(dict.fromkeys(step.name for step in steps))
    buffers: list[Fields] = [{}]
    tables = []
    for index, tensor in enumerate(tensors):
        if tensor.data is not None:
            buffers.append({0: np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)})
        tables.append(tensor.table(index, len(buffers) - 1 if tensor.data is not None else 0))
    operators = [_operator(step, names.index(step.name)) for step in steps]
    graph = {0: tables, 1: np.asarray(inputs, "<i4"), 2: np.asarray(outputs, "<i4"), 3: operators}
    codes = [_code(name) for name in names]
    return written({0: ("I", other.get("version", 3)), 1: codes, 2: [graph] * other.get("graphs", 1), 4: buffers})


def _code(name: str) -> Fields:
    if name not in NAMES:
        custom = NAMES.index("CUSTOM")
        return {0: ("b", custom), 1: name, 2: ("i", 1), 3: ("i", custom)}
    return {0: ("b", min(NAMES.index(name), 127)), 2: ("i", VERSIONS.get(name, 2)), 3: ("i", NAMES.index(name))}


def _operator(step: Step, code: int) -> Fields:
    found: Fields = {0: ("I", code), 1: np.asarray(step.inputs, "<i4"), 2: np.asarray(step.outputs, "<i4")}
    if step.intermediates:
        found[8] = np.asarray(step.intermediates, "<i4")
    if step.custom:
        return found | {5: np.frombuffer(step.custom, np.uint8)}
    return found if step.options is None else found | {3: ("B", step.options_type), 4: step.options}


def written(root: Fields) -> bytes:
    """A flatbuffer with this table first."""
    out = bytearray(8)
    out[4:8] = IDENTIFIER
    struct.pack_into("<I", out, 0, _table(out, root))
    return bytes(out)


def _align(out: bytearray, size: int, behind: int = 0) -> None:
    """Bytes so that what comes `behind` bytes later lies at a multiple of `size`."""
    out.extend(b"\0" * (-(len(out) + behind) % size))


def _table(out: bytearray, fields: Mapping[int, Any]) -> int:
    """Write a table and all that it points to; returns its place."""
    _align(out, 8)
    vtable, entries = len(out), max(fields, default=-1) + 1
    out.extend(b"\0" * (4 + 2 * entries))
    _align(out, 8)
    start, offset, places = len(out), 4, {}
    for number, value in fields.items():
        size = struct.calcsize(value[0]) if isinstance(value, tuple) else 4
        offset += -offset % size
        places[number] = offset
        offset += size
    out.extend(b"\0" * offset)
    struct.pack_into("<i", out, start, start - vtable)
    struct.pack_into("<HH", out, vtable, 4 + 2 * entries, offset)
    for number, value in fields.items():
        struct.pack_into("<H", out, vtable + 4 + 2 * number, places[number])
        _field(out, start + places[number], value)
    return start


def _field(out: bytearray, place: int, value: Any) -> None:
    if isinstance(value, tuple):
        struct.pack_into("<" + value[0], out, place, value[1])
        return
    if isinstance(value, dict):
        target = _table(out, value)
    elif isinstance(value, list):
        target = _vector(out, len(value), bytes(4 * len(value)))
        for index, entry in enumerate(value):
            slot = target + 4 + 4 * index
            struct.pack_into("<I", out, slot, _table(out, entry) - slot)
    elif isinstance(value, str):
        target = _vector(out, len(value.encode()), value.encode() + b"\0")
    else:
        target = _vector(out, value.size, value.tobytes())
    struct.pack_into("<I", out, place, target - place)


def _vector(out: bytearray, count: int, data: bytes) -> int:
    _align(out, 16, 4)  # numbers lie where a processor wants those of 16 bytes
    place = len(out)
    out.extend(struct.pack("<I", count) + data)
    return place
