# SPDX-License-Identifier: Apache-2.0
"""The meaning of `mean_magnitude` in plain torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops.mean_magnitude.arguments import WindowMeanArguments

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


def window_mean_reference(a: WindowMeanArguments) -> Tensor:
    """The sum over each window, row by row from 0, divided by its size."""
    wide = a.means if a.means.dtype in (torch.float32, torch.float64) else a.means.float()
    padded = F.pad(wide, [p for p in reversed(a.padding) for _ in range(2)])
    total = padded.new_zeros((*a.means.shape[:2], *a.out_size))
    for tap in itertools.product(*map(range, a.kernel)):
        total = total + padded[_seen(tap, a)]
    return (total / math.prod(a.kernel)).to(a.means.dtype).contiguous()


def _seen(tap: Sequence[int], a: WindowMeanArguments) -> tuple[slice, ...]:
    """What a tap of all windows sees of a padded image, along each dimension of space."""
    found = [slice(None), slice(None)]
    for first, count, stride, dilation in zip(tap, a.out_size, a.stride, a.dilation, strict=True):
        start = first * dilation
        found.append(slice(start, start + (count - 1) * stride + 1, stride))
    return tuple(found)
