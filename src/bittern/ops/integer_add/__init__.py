# SPDX-License-Identifier: Apache-2.0
"""integer_add: the sum of two int8 values of different scales, as TensorFlow Lite defines it.

a, b: int8 of one shape. With factors of `ops.fixed_point`, every product rounded (`scaled`),

    y = clamp(zero_y + M (M_a (a - zero_a) 2^20 + M_b (b - zero_b) 2^20), low, high)

Not called by itself: a step of a native program, made by `integer_add_step`; `integer_add` runs it alone. Every
instruction set gives the integers of `reference.py`.
"""

from bittern.ops.integer_add.arguments import IntegerSum
from bittern.ops.integer_add.cpu import integer_add, integer_add_step
from bittern.ops.integer_add.reference import integer_add_reference

__all__ = ["IntegerSum", "integer_add", "integer_add_reference", "integer_add_step"]
