# SPDX-License-Identifier: Apache-2.0
"""Weights of integers in C: a byte each, or two or four in a byte, the first in its lowest bits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from bittern.deploy.c_export.source import CFunction
from bittern.deploy.kinds.integer.products import BYTE_BITS, weight_bits
from bittern.deploy.program import Node

PACKED_BITS = (2, 4)


class Weights(NamedTuple):
    """How functions of products read a weight."""

    suffix: str
    """Of their names."""
    type: str
    reader: CFunction | None

    def at(self, index: str) -> str:
        """The number at an index, as C."""
        return f"weight[{index}]" if self.reader is None else f"{self.reader.name}(weight, {index})"

    @property
    def needs(self) -> tuple[CFunction, ...]:
        return () if self.reader is None else (self.reader,)


def _reader(bits: int) -> CFunction:
    name, shift = f"bt_weight{bits}", {2: 2, 4: 1}[bits]
    return CFunction(
        name,
        f"""\
/* Number i of a weight of {bits} bits, {BYTE_BITS // bits} in a byte, the first in its lowest bits. */
static int32_t {name}(const uint8_t *weight, int32_t i)
{{
    const uint32_t code = (uint32_t)weight[i >> {shift}] >> ((uint32_t)i % {BYTE_BITS // bits}u * {bits}u);
    return (int32_t)((code & {(1 << bits) - 1}u) ^ {1 << (bits - 1)}u) - {1 << (bits - 1)};
}}
""",
    )


WEIGHTS = {bits: Weights(f"_{bits}", "uint8_t", _reader(bits)) for bits in PACKED_BITS} | {
    BYTE_BITS: Weights("", "int8_t", None)
}
"""By the bits that a weight has in the file."""


def stored_bits(node: Node) -> int:
    """Bits that each number of a product's weight takes: 2, 4 or 8."""
    return min(bits for bits in WEIGHTS if bits >= weight_bits(node))


def packed(numbers: Tensor, bits: int) -> list[int]:
    """Integers of so many bits, in the order of memory, as bytes; zeros fill the last."""
    each = BYTE_BITS // bits
    codes = numbers.flatten().numpy().astype(np.uint8) & ((1 << bits) - 1)
    rows = np.pad(codes, (0, -len(codes) % each)).reshape(-1, each)
    found: list[int] = (rows << np.arange(0, BYTE_BITS, bits, dtype=np.uint8)).sum(1, dtype=np.uint8).tolist()
    return found
