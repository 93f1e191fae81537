# SPDX-License-Identifier: Apache-2.0
"""A safetensors file in pieces, so that writing one takes no second copy of its tensors.

The file is `length (uint64, little-endian) · header (JSON of that length) · the tensors' bytes`; the header says type,
shape and place of each. Wide types come first, so that every tensor lies at a multiple of its element's size.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_ALIGNMENT = 8
"""Bytes, of which the header fills a multiple."""

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What the header calls a type."""


def pieces(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[memoryview | bytes]:
    """The bytes of the file in order: of a contiguous CPU tensor those that it has in memory, of others a copy each.

    Raises: TypeError, before the first piece is used, for a type that safetensors has no name for.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    place = 0
    for name in names:
        value = tensors[name]
        if value.dtype not in NAMES:
            raise TypeError(f"{name}: a safetensors file holds no {value.dtype}; convert it first")
        end = place + value.numel() * value.element_size()
        header[name] = {"dtype": NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield struct.pack("<Q", len(text)) + text
    for name in names:
        flat = tensors[name].detach().cpu().contiguous().reshape(-1)
        yield flat.view(torch.uint8).numpy().data
