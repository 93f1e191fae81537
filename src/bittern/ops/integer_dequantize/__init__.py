# SPDX-License-Identifier: Apache-2.0
"""integer_dequantize: int8 to float32, scale * (x - zero), rounded once, by the table of all 256 answers.

A step of a native program, made by `PreparedIntegerDequantize`, which also runs it alone.
"""

from bittern.ops.integer_dequantize.cpu import PreparedIntegerDequantize
from bittern.ops.integer_dequantize.reference import integer_dequantize_reference

__all__ = ["PreparedIntegerDequantize", "integer_dequantize_reference"]
