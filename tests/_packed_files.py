# SPDX-License-Identifier: Apache-2.0
"""Packed files from plain data, sound or not."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Entry = tuple[str, str, Sequence[int], bytes]
"""(name, dtype, shape, bytes) of a tensor."""


def in_file(header: Any, body: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def program_file(
    nodes: Sequence[Any],
    shape: Sequence[Any],
    tensors: Sequence[Entry] = (),
    output: Any = None,
    few_bits: Mapping[str, Any] | None = None,
    **more: Any,
) -> bytes:
    """A packed file of these nodes, as the format writes them; the last one gives the result.

    few_bits: of weights that lie in planes. more: further keys of the program; with `inputs` among them, they stand in
    place of the shape.
    """
    last = len(nodes) + len(more.get("inputs", "1")) - 1
    program = {"input": list(shape), "output": last if output is None else output, "nodes": list(nodes), **more}
    if "inputs" in more:
        del program["input"]
    stored = {"few_bits": few_bits} if few_bits else {}
    content = json.dumps({"version": 1, "info": {}, "program": program, **stored})
    header, body = {}, b""
    for name, dtype, sizes, raw in tensors:
        header[name] = {"dtype": dtype, "shape": list(sizes), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    return in_file({**header, "__metadata__": {"bittern-packed": content}}, body)


def parts_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and what follows it."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def program_of(data: bytes) -> dict[str, Any]:
    """The program of a packed file, as JSON has it."""
    program: dict[str, Any] = json.loads(parts_of(data)[0]["__metadata__"]["bittern-packed"])["program"]
    return program


def with_program(change: Callable[[dict[str, Any]], Any], data: bytes) -> bytes:
    """A packed file whose program was changed."""
    header, body = parts_of(data)
    content = json.loads(header["__metadata__"]["bittern-packed"])
    change(content["program"])
    header["__metadata__"]["bittern-packed"] = json.dumps(content)
    return in_file(header, body)
