# SPDX-License-Identifier: Apache-2.0
"""The file of a packed model: one safetensors file whose metadata holds the program as JSON.

docs/packed_format.md describes it byte by byte. Reading trusts nothing: sizes are checked against the length of the
file before anything is allocated, the program is checked node by node, and rules on shapes alone (`shapes`) check that
all of it fits together before the first byte of memory is taken for it. Nothing in a file is executed or unpickled.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as dump_safetensors
from torch import Tensor

from bittern.deploy.budget import MEMORY_LIMIT
from bittern.deploy.errors import FormatError
from bittern.deploy.few_bits import from_file, to_file
from bittern.deploy.finite import all_finite, any_nan
from bittern.deploy.input_format import inputs_from_json, inputs_to_json, is_integers
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node, Program, tensor_name
from bittern.deploy.validate import check_program

FORMAT = "bittern-packed"
VERSION = 1
FEW_BITS = "few_bits"
MAX_NUMBERS = 2**48
"""Of one tensor, sizes of 0 counted as 1: strides then fit 64 bits."""
MAX_HEADER_BYTES = 16 * 2**20
MAX_NODES = 100_000
FILE_TYPES = {
    "F32": (torch.float32, 4),
    "U8": (torch.uint8, 1),
    "I8": (torch.int8, 1),
    "I32": (torch.int32, 4),
    "I64": (torch.int64, 8),
    "BOOL": (torch.bool, 1),
}


class Content(NamedTuple):
    """What a file holds."""

    program: Program
    tensors: Mapping[str, Tensor]
    info: Mapping[str, str]


def encode(content: Content) -> bytes:
    """The file, byte for byte the same for the same content."""
    data = {"version": VERSION, "info": content.info, "program": _program_to_json(content.program)}
    stored, few_bits = to_file(content.program, content.tensors)
    if few_bits:
        data[FEW_BITS] = few_bits
    text = json.dumps(data, separators=(",", ":"), sort_keys=True, allow_nan=False)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in stored.items()}
    # one entry, because safetensors writes several in no fixed order
    return dump_safetensors(tensors, {FORMAT: text})


def decode(data: bytes, memory_limit: int = MEMORY_LIMIT) -> Content:
    """Read and check a file; memory_limit: bytes that the model may take (`budget`). Raises: FormatError."""
    try:
        return _decode(data, memory_limit)
    except RecursionError as error:
        raise FormatError("its header or its program is nested too deeply") from error


def _decode(data: bytes, memory_limit: int) -> Content:
    metadata = _check_header(data)
    if set(metadata) != {FORMAT}:
        raise FormatError("it is a safetensors file, but not one of a packed model; bittern.pack makes one")
    content = _parse_json(metadata[FORMAT], "program")
    if not isinstance(content, dict) or content.get("version") != VERSION:
        found = content.get("version") if isinstance(content, dict) else None
        raise FormatError(f"its version is {found!r}; this bittern reads version {VERSION}")
    if set(content) - {FEW_BITS} != {"version", "info", "program"}:
        raise FormatError("its metadata must have exactly version, info and program, and few_bits where it needs it")
    program, info = _program_from_json(content["program"]), content["info"]
    if not isinstance(info, dict) or not all(isinstance(v, str) for v in info.values()):
        raise FormatError("its info is not a map of texts")
    try:
        tensors = parse_safetensors(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"its tensors are damaged: {error}") from error
    if FEW_BITS in content:
        tensors = from_file(tensors, content[FEW_BITS], memory_limit)
    _check_values(tensors, program)
    check_program(program, tensors, memory_limit)
    return Content(program, tensors, info)


def _check_header(data: bytes) -> Mapping[str, str]:
    """Check the safetensors header by itself, so that no size in it is believed before it is compared."""
    if len(data) < 8:
        raise FormatError(f"it is cut off: {len(data)} bytes, less than a header length")
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(MAX_HEADER_BYTES, len(data) - 8):
        raise FormatError(
            f"its header claims {length} bytes; the file has {len(data)}, the limit is {MAX_HEADER_BYTES}"
        )
    header = _parse_json(data[8 : 8 + length].decode("utf-8", errors="replace"), "header")
    if not isinstance(header, dict):
        raise FormatError("its header is not a JSON object")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise FormatError("its header has no metadata of texts")
    total = 0
    for name, entry in header.items():
        total += _entry_bytes(name, entry)
    if 8 + length + total != len(data):
        raise FormatError(f"its tensors take {total} bytes, the file has {len(data) - 8 - length} for them")
    return metadata


def _entry_bytes(name: str, entry: Any) -> int:
    """Size of one tensor by its dtype and shape, which must agree with its offsets."""
    dtype = entry.get("dtype") if isinstance(entry, dict) else None
    if not isinstance(dtype, str) or dtype not in FILE_TYPES:
        raise FormatError(f"tensor {name!r} has a dtype that no packed model uses")
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or any(type(n) is not int or n < 0 or n > 2**48 for n in numbers):
            raise FormatError(f"tensor {name!r} has a damaged shape or position")
    assert isinstance(shape, list)
    assert isinstance(offsets, list)
    size = math.prod(shape) * FILE_TYPES[dtype][1]
    if (
        len(shape) > 8
        or math.prod(max(n, 1) for n in shape) > MAX_NUMBERS
        or len(offsets) != 2
        or offsets[1] - offsets[0] != size
    ):
        raise FormatError(f"tensor {name!r}: shape {shape} does not fit its position {offsets}")
    return size


def _check_values(tensors: Mapping[str, Tensor], program: Program) -> None:
    """Operators of torch may take infinity, for a mask; nothing else does, and nothing takes NaN."""
    native = {name for node in program.nodes if not _may_be_infinite(node) for name in node.tensors.values()}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        if not all_finite(tensor) if name in native else any_nan(tensor):
            raise FormatError(f"tensor {name!r} holds NaN or infinity")


def _may_be_infinite(node: Node) -> bool:
    return node.kind in KINDS and KINDS[node.kind].infinite


def _parse_json(text: str, what: str) -> Any:
    def no_constant(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"its {what} is not valid JSON: {error}") from error


def _program_to_json(program: Program) -> dict[str, Any]:
    """Values are numbered anew in the order of the nodes, so that a node need not say what it writes."""
    first = len(program.inputs)
    number = dict(enumerate(range(first)))
    number |= {node.output: index for index, node in enumerate(program.nodes, first)}
    nodes = []
    for node in program.nodes:
        rules = KINDS[node.kind].attrs
        attrs = {key: value for key, value in node.attrs.items() if value != rules[key].default}
        nodes.append([node.kind, node.name, [number[v] for v in node.inputs], attrs, _roles_to_json(node)])
    return {**inputs_to_json(program), "output": number[program.output], "nodes": nodes}


def _roles_to_json(node: Node) -> list[str | list[str]]:
    """The role alone where the tensor is the node's own; with its name where another node of the layer has it too."""
    named = sorted(node.tensors.items())
    return [role if name == tensor_name(node.name, role) else [role, name] for role, name in named]


def _program_from_json(data: Any) -> Program:
    if not isinstance(data, dict):
        raise FormatError("its program is damaged")
    given = inputs_from_json(data)
    output, nodes = data["output"], data["nodes"]
    if type(output) is not int or not isinstance(nodes, list):
        raise FormatError("its program is damaged")
    if len(nodes) > MAX_NODES:
        raise FormatError(f"its program has {len(nodes)} nodes; the limit is {MAX_NODES}")
    read = tuple(_node_from_json(node, index) for index, node in enumerate(nodes, len(given.inputs)))
    if len({node.name for node in read}) != len(read):
        raise FormatError("two nodes have the same name")
    return Program(read, output=output, **given._asdict())


def _node_from_json(data: Any, number: int) -> Node:
    """[kind, name, inputs, attributes, roles of tensors]: attributes that are left out have their defaults.

    number: of the value that it writes.
    """
    if not isinstance(data, list) or len(data) != 5:
        raise FormatError(f"node {number} must be a list of kind, name, inputs, attributes and tensors")
    kind, name, inputs, attrs, roles = data
    texts = isinstance(kind, str) and isinstance(name, str) and isinstance(roles, list)
    if not texts or not isinstance(attrs, dict) or not is_integers(inputs, 0, number - 1):
        raise FormatError(f"node {number} is damaged, or reads values that are not yet written")
    rules = KINDS[kind].attrs if kind in KINDS else {}
    defaults = {key: rule.default for key, rule in rules.items() if rule.default is not None}
    return Node(kind, name, tuple(inputs), number, {**defaults, **attrs}, _tensors_from_json(name, roles))


def _tensors_from_json(node: str, roles: list[Any]) -> dict[str, str]:
    tensors: dict[str, str] = {}
    for entry in roles:
        match entry:
            case str():
                role, name = entry, tensor_name(node, entry)
            case [str() as role, str() as name] if name != tensor_name(node, role):
                pass
            case _:
                raise FormatError(f"node {node!r}: the roles of its tensors must be texts, or pairs of role and tensor")
        if role in tensors:
            raise FormatError(f"node {node!r}: has two tensors {role!r}")
        tensors[role] = name
    return tensors
