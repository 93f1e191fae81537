# SPDX-License-Identifier: Apache-2.0
"""Packed files from plain data, sound or not."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

Entry = tuple[str, str, Sequence[int], bytes]
"""(name, dtype, shape, bytes) of a tensor."""


def in_file(header: Any, body: bytes = b"") -> bytes:
    """A safetensors file with this header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def program_file(
    nodes: Sequence[Any], shape: Sequence[Any], tensors: Sequence[Entry] = (), output: Any = None, **more: Any
) -> bytes:
    """A packed file of these nodes, as the format writes them; the last one gives the result.

    more: further keys of the program; with `inputs` among them, they stand in place of the shape.
    """
    last = len(nodes) + len(more.get("inputs", "1")) - 1
    program = {"input": list(shape), "output": last if output is None else output, "nodes": list(nodes), **more}
    if "inputs" in more:
        del program["input"]
    content = json.dumps({"version": 1, "info": {}, "program": program})
    header, body = {}, b""
    for name, dtype, sizes, raw in tensors:
        header[name] = {"dtype": dtype, "shape": list(sizes), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    return in_file({**header, "__metadata__": {"bittern-packed": content}}, body)
