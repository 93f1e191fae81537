# SPDX-License-Identifier: Apache-2.0
"""integer_quantize: float32 images to int8.

x: float32 [batch, channels, height, width]; y = clamp(round(x / scale) + zero, -128, 127), the division in float32,
halves away from zero; NaN becomes 0. A step of a native program that reads images as they lie and writes channels last,
made by `PreparedIntegerQuantize`, which also runs it alone.
"""

from bittern.ops.integer_quantize.cpu import PreparedIntegerQuantize
from bittern.ops.integer_quantize.reference import integer_quantize_reference

__all__ = ["PreparedIntegerQuantize", "integer_quantize_reference"]
