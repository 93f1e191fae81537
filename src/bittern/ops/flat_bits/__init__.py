# SPDX-License-Identifier: Apache-2.0
"""A tensor of two numbers, 1 and a lower one, as one bit an element in the order of memory, past torch's dispatcher.

flat_bits(x, low) -> int64 [ceil(n / 64)], or None where x holds another number
    bit i % 64 of word i / 64 is 1 where the i-th of the n numbers in memory is 1, 0 where it is low; surplus bits 0
rows_of_bits(bits, rows, columns) -> int64 [rows, ceil(columns / 64)]: the words that `pack_signs` makes of these rows
from_flat_bits(bits, shape, stride, low) -> float32: the tensor that has these bits, and lies as the stride says
x: float32 on the CPU, contiguous or channels-last. low: -1 or 0; -0 counts as 0.
A training step keeps and counts its operands so. Plain functions: nothing differentiates or traces them.
Errors: ValueError for another x.
"""

from __future__ import annotations

from bittern.ops.flat_bits.cpu import flat_bits, from_flat_bits, rows_of_bits

__all__ = ["flat_bits", "from_flat_bits", "rows_of_bits"]
