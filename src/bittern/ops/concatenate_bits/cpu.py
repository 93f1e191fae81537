# SPDX-License-Identifier: Apache-2.0
"""`concatenate_bits` on the CPU: one step of a native program for each part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from bittern.ops._isa import Isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.images import WORD_BYTES, BitImages
from bittern.ops.binary_block.layout import STEP, StepKind


def concatenate_bits_steps(parts: Sequence[BitImages], out: BitImages) -> np.ndarray:
    """The records of one call over given memory: for every bit plane, the parts in order."""
    records = np.zeros(out.planes * len(parts), STEP)
    records["kind"] = StepKind.CONCATENATE_BITS
    for plane in range(out.planes):
        offset = 0
        for index, part in enumerate(parts):
            number = plane * len(parts) + index
            c, sizes = records["concatenate_bits"][number : number + 1], records["sizes"][number : number + 1]
            c["batch"], c["height"], c["width"], c["channels"] = part.batch, part.height, part.width, part.channels
            c["offset"] = offset
            skipped = plane * part.plane_words * WORD_BYTES
            c["x"], sizes["input"] = part.address + skipped, part.bytes_behind - skipped
            c["x_row"], c["x_image"] = part.row_words, part.image_words
            c["out_words"] = out.pixel_words
            skipped = plane * out.plane_words * WORD_BYTES
            c["out"], sizes["bits"] = out.address + skipped, out.bytes_behind - skipped
            c["out_row"], c["out_image"] = out.row_words, out.image_words
            offset += part.channels
    return records


def concatenate_bits_cpu(isa: Isa, parts: list[Tensor], channels: list[int]) -> Tensor:
    shape = parts[0].shape[:-1]
    images = [
        BitImages.of(part.reshape(1, 1, -1, part.shape[-1]), bits) for part, bits in zip(parts, channels, strict=True)
    ]
    out = BitImages.empty(1, 1, images[0].width, sum(channels))
    run_steps(isa, concatenate_bits_steps(images, out))
    return out.memory.view(*shape, out.pixel_words)
