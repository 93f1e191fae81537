# SPDX-License-Identifier: Apache-2.0
"""The meaning of `pool_bits` in plain torch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bittern.ops.pool_bits.arguments import PoolBitsArguments


def pool_bits_reference(a: PoolBitsArguments) -> Tensor:
    """The OR of each window's words, channels with a flip the other way round; nothing outside the image counts."""
    x, kernel, stride, padding, _, flip = a
    height, width = a.output_size
    rising = x if flip is None else x ^ flip
    below = max(0, (height - 1) * stride[0] + kernel[0] - x.shape[1] - padding[0])
    right = max(0, (width - 1) * stride[1] + kernel[1] - x.shape[2] - padding[1])
    padded = F.pad(rising, (0, 0, padding[1], right, padding[0], below))
    found = padded.new_zeros((x.shape[0], height, width, x.shape[-1]))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows = slice(i, i + (height - 1) * stride[0] + 1, stride[0])
            columns = slice(j, j + (width - 1) * stride[1] + 1, stride[1])
            found = found | padded[:, rows, columns]
    return found if flip is None else found ^ flip
