# SPDX-License-Identifier: Apache-2.0
"""Where the outputs of a layer look, and the exact product that they are."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Geometry(NamedTuple):
    """Where each output looks: one entry per space dimension (none for a linear layer)."""

    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    pad_value: int = 0
    """Value that padding has on the grid: 0 as the papers train, or -1 / +1, which have a bit."""


def accumulate(x: Tensor, w: Tensor, geometry: Geometry) -> Tensor:
    """Convolve values x [batch, channels, *space] with values w [out, in / groups, *kernel]: exact integers, or sums
    of real numbers where x is real."""
    if not geometry.stride:
        return F.linear(x.contiguous(), w)  # rows that lie otherwise in memory torch adds in another order
    padding = geometry.padding
    if geometry.pad_value != 0 and any(padding):
        x = padded(x, geometry)
        padding = (0,) * len(padding)
    conv = F.conv1d if len(geometry.stride) == 1 else F.conv2d
    return conv(x, w, None, geometry.stride, padding, geometry.dilation, geometry.groups)


def padded(x: Tensor, geometry: Geometry) -> Tensor:
    """x [batch, channels, *space] within `pad_value`."""
    widths = [p for p in reversed(geometry.padding) for _ in range(2)]
    return F.pad(x, widths, value=float(geometry.pad_value))
