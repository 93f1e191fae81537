"""Sizes of a convolution, in one place for check, fake, native and Triton code."""

from __future__ import annotations

from collections.abc import Sequence


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
    for n, k, s, p, d in zip((height, width), (kernel_h, kernel_w), stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        if room < 0:
            raise ValueError(
                f"binary_conv2d: a kernel of {kernel_h}x{kernel_w} (dilation {list(dilation)}) does not fit into "
                f"an image of {height}x{width} with padding {list(padding)}"
            )
        sizes.append(room // s + 1)
    return sizes[0], sizes[1]
