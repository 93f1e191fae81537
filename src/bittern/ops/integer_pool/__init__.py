# SPDX-License-Identifier: Apache-2.0
"""integer_pool: means or maxima over windows of int8 images, whose scale stays.

x: int8 [batch, channels, height, width]. What lies outside an image does not count; a mean is rounded to the nearest,
halves away from zero; then the limits. Every window must hold a pixel. Not called by itself: a step of a native program
over images with channels last, made by `integer_pool_step`; `integer_pool` runs it alone. Every instruction set gives
the integers of `reference.py`.
"""

from bittern.ops.integer_pool.arguments import IntegerPoolRule
from bittern.ops.integer_pool.cpu import integer_pool, integer_pool_step
from bittern.ops.integer_pool.reference import integer_pool_reference

__all__ = ["IntegerPoolRule", "integer_pool", "integer_pool_reference", "integer_pool_step"]
