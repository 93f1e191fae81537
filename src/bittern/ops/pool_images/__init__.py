# SPDX-License-Identifier: Apache-2.0
"""pool_images: maxima or means over windows of real images with channels last, and means of whole images.

x: float32 [batch, height, width, channels], which may go through x * alpha + beta first, rounded once. A mean adds the
numbers of a window row by row and divides once; a maximum is NaN where the window has one. The mean of a whole image is
added in the order in which torch adds a row of numbers. Not called by itself: a step of a native program, made by
`pool_step` and `mean_step`; every instruction set gives the bits of `reference.py`.
"""

from bittern.ops.pool_images.cpu import mean_step, pool_step
from bittern.ops.pool_images.rule import PoolRule

__all__ = ["PoolRule", "mean_step", "pool_step"]
