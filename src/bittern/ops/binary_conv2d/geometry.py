# SPDX-License-Identifier: Apache-2.0
"""Sizes of a convolution, in one place for check, fake, native and Triton code."""

from __future__ import annotations

from collections.abc import Sequence

from bittern.ops._windows import window_positions


def output_size(
    height: int,
    width: int,
    kernel_h: int,
    kernel_w: int,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, int]:
    """(out_h, out_w) of a convolution.

    Raises: ValueError when the dilated kernel does not fit into the padded image.
    """
    sizes = []
    for numbers in zip((height, width), (kernel_h, kernel_w), stride, padding, dilation, strict=True):
        positions = window_positions(*numbers)
        if positions < 1:
            raise ValueError(
                f"binary_conv2d: a kernel of {kernel_h}x{kernel_w} (dilation {list(dilation)}) does not fit into "
                f"an image of {height}x{width} with padding {list(padding)}"
            )
        sizes.append(positions)
    return sizes[0], sizes[1]
