# SPDX-License-Identifier: Apache-2.0
"""integer_mean: the mean of each channel of whole int8 images, in another scale.

x: int8 [batch, channels, height, width]; y = clamp(zero_y + M sum (x - zero_x), low, high), M a factor of
`ops.fixed_point` that divides by the pixels, rounded as `scaled`. A step of a native program over images with channels
last, by `integer_mean_step`; `integer_mean` runs it alone. Every instruction set gives the integers of `reference.py`.
Source: reduce.h of TensorFlow Lite's reference kernels (Apache-2.0).
"""

from bittern.ops.integer_mean.arguments import IntegerMeanRule
from bittern.ops.integer_mean.cpu import integer_mean, integer_mean_step
from bittern.ops.integer_mean.reference import integer_mean_reference

__all__ = ["IntegerMeanRule", "integer_mean", "integer_mean_reference", "integer_mean_step"]
