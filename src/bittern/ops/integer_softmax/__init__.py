# SPDX-License-Identifier: Apache-2.0
"""integer_softmax: softmax of rows from int8 to int8 without a float, as LiteRT has it.

x: int8 [rows, answers], at most 4,095 answers; the result is scale 1/256 about -128. exp and the reciprocal of the sum
are in fixed point (`ops.fixed_point`). Not called by itself: a step of a native program, made by
`PreparedIntegerSoftmax`, which also runs it alone. The same integers as `reference.py`.
"""

from bittern.ops.integer_softmax.cpu import PreparedIntegerSoftmax
from bittern.ops.integer_softmax.reference import integer_softmax_reference

__all__ = ["PreparedIntegerSoftmax", "integer_softmax_reference"]
