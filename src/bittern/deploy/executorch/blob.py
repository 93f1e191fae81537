# SPDX-License-Identifier: Apache-2.0
"""What the Bittern backend finds in a `.pte`: calls of its kernels over numbered values, as bytes.

All numbers are little-endian int64. Layout: magic, version, counts (inputs, outputs, values, words of calls), bytes of
working memory, bytes of constants; then per value (place, offset, bytes); then the calls (code, number of operands,
operands); then the constants. `native/executorch/blob.h` reads it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

MAGIC = int.from_bytes(b"bittern\0", "little")
VERSION = 1
ALIGNMENT = 64
"""Of every value in working memory and of every constant: a cache line."""
NONE = -1
"""In place of a value that a call does not have."""


class Place(IntEnum):
    """Where a value lies."""

    ARGUMENT = 0
    """An input or output of the delegate; its offset is the position."""
    WORKING = 1
    CONSTANT = 2


class Code(IntEnum):
    """What a call computes; operands are values unless said otherwise."""

    PACK = 0
    """input, threshold or NONE, output; numbers: dtype, rows, columns."""
    XOR = 1
    """input, mask, output; numbers: rows, words of a row."""
    CONV2D = 2
    """input, weight bits, epilogue or NONE, output; numbers: batch, height, width, channels, out channels, kernel h and
    w, stride, padding, dilation, groups, pad value."""
    PERMUTE = 3
    """input, output; numbers: bytes of an element, then four sizes and an order of four."""

    POOL_BITS = 4
    """input, flip or NONE, output; numbers: batch, height, width, words of a pixel, height and width of the output,
    kernel h and w, stride, padding."""
    CONCATENATE_BITS = 5
    """input, output; numbers: rows, channels, channels in front of them, words of a row of the output."""


class Value(NamedTuple):
    """One value."""

    place: Place
    offset: int
    nbytes: int


def align(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


class Blob:
    """Collects values and calls."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.values: list[Value] = []
        self.calls: list[int] = []
        self.constants = bytearray()
        self.working_bytes = 0

    def argument(self, position: int, nbytes: int) -> int:
        """An input (positions from 0) or output (after the inputs) of the delegate; returns the value's number."""
        return self._add(Value(Place.ARGUMENT, position, nbytes))

    def working(self, nbytes: int) -> int:
        """A value between two calls."""
        offset = self.working_bytes
        self.working_bytes = align(offset + nbytes)
        return self._add(Value(Place.WORKING, offset, nbytes))

    def constant(self, data: bytes) -> int:
        offset = align(len(self.constants))
        self.constants += bytes(offset - len(self.constants)) + data
        return self._add(Value(Place.CONSTANT, offset, len(data)))

    def call(self, code: Code, *operands: int) -> None:
        self.calls += [code, len(operands), *operands]

    def to_bytes(self) -> bytes:
        counts = [self.inputs, self.outputs, len(self.values), len(self.calls), self.working_bytes, len(self.constants)]
        table = [number for value in self.values for number in value]
        return np.array([MAGIC, VERSION, *counts, *table, *self.calls], dtype="<i8").tobytes() + bytes(self.constants)

    def _add(self, value: Value) -> int:
        self.values.append(value)
        return len(self.values) - 1
