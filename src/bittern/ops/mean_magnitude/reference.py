# SPDX-License-Identifier: Apache-2.0
"""The meaning of `mean_magnitude` in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SUMS = 16
"""Channel c is added to sum c modulo so many, in ascending order; a whole vector at every instruction set."""


def mean_magnitude_reference(x: Tensor) -> Tensor:
    """Mean |x| over the channels: 16 sums, halved four times, and one division."""
    size = x.abs() if x.dtype in (torch.float32, torch.float64) else x.float().abs()
    sums = _in_sums(size)
    total = sums[:, 0]
    for i in range(1, sums.shape[1]):
        total = total + sums[:, i]
    while (half := total.shape[1] // 2) > 0:
        total = total[:, :half] + total[:, half:]
    return (total / x.shape[1]).to(x.dtype).contiguous()


def _in_sums(size: Tensor) -> Tensor:
    """[samples, channels, *space] -> [samples, terms, SUMS, *space], with zeros behind the last channel."""
    missing = -size.shape[1] % SUMS
    padded = F.pad(size, (*(0, 0) * (size.ndim - 2), 0, missing)) if missing else size
    return padded.reshape(len(size), padded.shape[1] // SUMS, SUMS, *size.shape[2:])
