# SPDX-License-Identifier: Apache-2.0
"""Sizes of a convolution, in one place for check, fake, native and Triton code."""

from __future__ import annotations

from collections.abc import Sequence

from bittern.ops._windows import convolved_size


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
    out_h, out_w = convolved_size((height, width), (kernel_h, kernel_w), stride, padding, dilation)
    if min(out_h, out_w) < 1:
        raise ValueError(
            f"binary_conv2d: a kernel of {kernel_h}x{kernel_w} (dilation {list(dilation)}) does not fit into "
            f"an image of {height}x{width} with padding {list(padding)}"
        )
    return out_h, out_w
