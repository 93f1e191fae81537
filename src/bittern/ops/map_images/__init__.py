# SPDX-License-Identifier: Apache-2.0
"""map_images: what happens to each number of real images by itself, several operations at once.

x: float32 [batch, height, width, channels], channels last. Operations (`MapOperation`) follow one another while a tile
of the images lies in the cache, each rounded as torch rounds it; they read parameters of each channel, and up to two
operands: other images, or one number for each channel of a sample. NaN passes through all.
Not called by itself: a step of a native program, made by `PreparedMap`; every instruction set gives the bits of
`reference.py`.
"""

from bittern.ops.map_images.cpu import PreparedMap
from bittern.ops.map_images.operation import MapOperation, MapStep

__all__ = ["MapOperation", "MapStep", "PreparedMap"]
