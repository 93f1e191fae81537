# SPDX-License-Identifier: Apache-2.0
"""`pool_bits` on the CPU: a step of a native program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from bittern.ops._check import WORD_BITS
from bittern.ops._isa import Isa
from bittern.ops.binary_block.cpu import run_steps
from bittern.ops.binary_block.images import BitImages
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of
from bittern.ops.pool_bits.arguments import PoolBitsArguments


def pool_bits_step(
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    flip: Tensor | None,
    x: BitImages,
    out: BitImages,
) -> np.ndarray:
    """The record of one call over given memory; flip must stay where it is."""
    record = np.zeros(1, STEP)
    record["kind"] = StepKind.POOL_BITS
    p = record["pool_bits"]
    p["batch"], p["height"], p["width"], p["words"] = x.batch, x.height, x.width, x.pixel_words
    p["out_height"], p["out_width"] = out.height, out.width
    p["kernel_h"], p["kernel_w"] = kernel
    p["stride_h"], p["stride_w"] = stride
    p["pad_h"], p["pad_w"] = padding
    p["x"], p["x_row"], p["x_image"] = x.address, x.row_words, x.image_words
    p["flip"] = 0 if flip is None else flip.data_ptr()
    p["out"], p["out_row"], p["out_image"] = out.address, out.row_words, out.image_words
    sizes = record["sizes"]
    sizes["input"], sizes["mask"], sizes["bits"] = x.bytes_behind, bytes_of(flip), out.bytes_behind
    return record


def pool_bits_cpu(isa: Isa, a: PoolBitsArguments) -> Tensor:
    images = BitImages.of(a.x, WORD_BITS * a.x.shape[-1])
    out = BitImages.empty(images.batch, *a.output_size, images.channels)
    mask = None if a.flip is None else a.flip.contiguous()
    run_steps(isa, pool_bits_step(a.kernel, a.stride, a.padding, mask, images, out))
    return out.view()
