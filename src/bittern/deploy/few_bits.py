# SPDX-License-Identifier: Apache-2.0
"""Weights of integers that need fewer than 8 bits: int8 in memory, planes of bits in a file.

A node says how many bits its weight has (`kinds.integer.products.weight_bits`). In a file such a weight is uint8
[bits, ceil(numbers / 8)], the streams of `bit_stream` of the number + 2^(bits - 1), and a table of the file says for
each its bits and its shape. A tensor that anything else reads too, or that its nodes give different bits, has the most
that one of them needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bittern.codes import Integers
from bittern.deploy.bit_stream import numbers_of, stream_bytes, to_streams
from bittern.deploy.errors import FormatError
from bittern.deploy.kinds.integer.products import BYTE_BITS, LEAST_BITS, weight_bits
from bittern.deploy.program import Program
from bittern.ops import bytes_of

DIMS = (2, 4)
"""Of a weight: of rows of samples, and of images."""
COPIES = 3
"""Bytes of each number while planes become numbers: a plane, the numbers, and the numbers in their order."""

Table = Mapping[str, Any]
"""Name of a tensor -> [bits, shape]."""


def widths(program: Program) -> dict[str, int]:
    """Bits of each tensor whose numbers need fewer than 8, by its name."""
    found: dict[str, int] = {}
    for node in program.nodes:
        for role, name in node.tensors.items():
            bits = weight_bits(node) if role == "weight" else BYTE_BITS
            found[name] = max(found.get(name, 0), bits)
    return {name: bits for name, bits in found.items() if bits < BYTE_BITS}


def stored_bytes(program: Program, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Bytes of each tensor in a file."""
    few = widths(program)
    return {
        name: few[name] * stream_bytes(tensor.numel()) if name in few else bytes_of(tensor)
        for name, tensor in tensors.items()
    }


def code_of(bits: int) -> Integers:
    """All integers of so many bits."""
    return Integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def to_file(program: Program, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors as a file has them, and what it says of those in planes."""
    few = widths(program)
    found = {name: to_streams(code_of(few[name]), t.cpu()) if name in few else t for name, t in tensors.items()}
    return found, {name: [bits, list(tensors[name].shape)] for name, bits in few.items()}


def from_file(tensors: Mapping[str, Tensor], table: Any, memory_limit: float) -> dict[str, Tensor]:
    """The tensors as a program has them. Nothing is allocated for a table that does not fit.

    Raises: FormatError for a table or planes that do not fit each other, and for more numbers than the limit holds.
    """
    if not isinstance(table, dict):
        raise FormatError("its few_bits is not a map of tensors")
    shapes = {name: _checked(name, entry, tensors) for name, entry in table.items()}
    total = COPIES * sum(math.prod(shape) for _, shape in shapes.values())
    if total > memory_limit:
        raise FormatError(
            f"its weights of few bits take {total} bytes as numbers, and the limit is {memory_limit}; if you trust the "
            "file, pass load a larger memory_limit"
        )
    found = dict(tensors)
    for name, (bits, shape) in shapes.items():
        found[name] = numbers_of(code_of(bits), tensors[name], shape, torch.int8)
    return found


def _checked(name: str, entry: Any, tensors: Mapping[str, Tensor]) -> tuple[int, list[int]]:
    """Bits and shape of a tensor. Raises: FormatError."""
    match entry:
        case [bits, [*shape]] if type(bits) is int and all(type(n) is int and n >= 1 for n in shape):
            pass
        case _:
            raise FormatError(f"few_bits of {name!r} must be its bits and its shape; got {entry!r:.80}")
    if not LEAST_BITS <= bits < BYTE_BITS or len(shape) not in DIMS:
        raise FormatError(f"few_bits of {name!r}: must be 2 to 7 bits, and 2 or 4 dimensions; got {entry!r:.80}")
    streams, wanted = tensors.get(name), (bits, stream_bytes(math.prod(shape)))
    if streams is None:
        raise FormatError(f"few_bits names tensor {name!r}, which is not in the file")
    if streams.dtype != torch.uint8 or tuple(streams.shape) != wanted:
        got = f"{streams.dtype} {list(streams.shape)}"
        raise FormatError(f"tensor {name!r}: {bits} bits of {shape} are torch.uint8 {list(wanted)}; got {got}")
    return bits, shape
