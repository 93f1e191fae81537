# SPDX-License-Identifier: Apache-2.0
"""`pack_levels` on the CPU: one step of a native program (`pack_signs/kernel.inl.h`)."""

from __future__ import annotations

from torch import Tensor

from bittern.ops._isa import Isa
from bittern.ops.binary_block.cpu import encode_step, run_steps
from bittern.ops.binary_block.images import BitImages
from bittern.ops.binary_block.layout import readable

IMAGE_DIMS = 4


def pack_levels_cpu(isa: Isa, x: Tensor, planes: int) -> Tensor:
    images = readable(x if x.ndim == IMAGE_DIMS else x.reshape(1, 1, -1, x.shape[-1]))
    batch, height, width, channels = images.shape
    bits = BitImages.empty(batch, height, width, channels, planes=planes)
    run_steps(isa, encode_step(images, None, bits))
    return bits.memory.view(planes, *x.shape[:-1], bits.pixel_words)
