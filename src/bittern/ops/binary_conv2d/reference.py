# SPDX-License-Identifier: Apache-2.0
"""The meaning of `binary_conv2d` in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops._epilogue import apply_epilogue
from bittern.ops.binary_conv2d.arguments import Conv2dArguments
from bittern.ops.unpack_signs.reference import unpack_signs_reference


def binary_conv2d_reference(a: Conv2dArguments) -> Tensor:
    """acc = sum over taps and channels of x * w, padding counted as pad_value, then the epilogue if any."""
    _, _, channels, stride, padding, dilation, groups, pad_value, epilogue = a
    image = unpack_signs_reference(a.x, channels, torch.float64).permute(0, 3, 1, 2)
    kernel = unpack_signs_reference(a.w, channels // groups, torch.float64).permute(0, 3, 1, 2)
    image = F.pad(image, (padding[1], padding[1], padding[0], padding[0]), value=float(pad_value))
    if 0 in (image.shape[0], kernel.shape[0]):
        acc = image.new_empty((image.shape[0], kernel.shape[0], 1, 1))  # torch refuses empty batches with groups
        acc = acc.expand(-1, -1, *_space(image, kernel, stride, dilation))
    else:
        acc = F.conv2d(image, kernel, None, stride, 0, dilation, groups)
    return apply_epilogue(acc.permute(0, 2, 3, 1).to(torch.int32).contiguous(), epilogue)


def _space(image: Tensor, kernel: Tensor, stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    sizes = zip(image.shape[2:], kernel.shape[2:], stride, dilation, strict=True)
    return [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in sizes]
