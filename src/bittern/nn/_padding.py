# SPDX-License-Identifier: Apache-2.0
"""How a low-bit convolution pads, worked out once from the words and numbers that torch's convolutions take.

Padding by a constant happens on the grid, behind the sign: `Geometry.padding`, the same on both sides. Two things do
not fit there and happen around the product:

    values   padding_mode "reflect", "replicate", "circular" copy real values, in front of the sign
    crop     padding="same" of an even kernel reach d * (k - 1) pads one more behind than in front. Here both sides get
             the larger one, and the first output, which alone looks at the surplus, is dropped
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

MODES = ("zeros", "reflect", "replicate", "circular")
"""torch's padding modes; "zeros" is the constant one."""


class Padding(NamedTuple):
    """What a convolution was told, and what it does."""

    told: str | tuple[int, ...]
    """"same", "valid", or the padding of each space dimension."""
    mode: str
    grid: tuple[int, ...]
    """Padding of each space dimension by a constant on the grid, on either side."""
    crop: tuple[int, ...]
    """Outputs of each space dimension to drop in front."""
    values: tuple[int, ...] = ()
    """Widths of real values to copy, as `F.pad` takes them (last dimension first); () for none."""

    def copied(self, x: Tensor) -> Tensor:
        """x [batch, channels, *space] with its own values around it, where the mode asks for them."""
        return F.pad(x, self.values, mode=self.mode) if self.values else x

    def cropped(self, y: Tensor) -> Tensor:
        """y [batch, channels, *space] without the outputs that `grid` has too many."""
        for dim, surplus in enumerate(self.crop, start=2):
            if surplus:
                y = y.narrow(dim, surplus, y.shape[dim] - surplus)
        return y


def work_out(
    owner: str,
    padding: str | tuple[int, ...],
    mode: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Padding:
    """The padding of a convolution; kernel, stride, dilation: one entry per space dimension. Raises: ValueError."""
    if mode not in MODES:
        raise ValueError(f"{owner}: padding_mode must be one of {', '.join(map(repr, MODES))}; got {mode!r}")
    none = (0,) * len(kernel)
    front = behind = none if isinstance(padding, str) else padding
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError(f'{owner}: padding="same" needs stride 1, as in torch; got stride={tuple(stride)}')
        reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        front, behind = tuple(r // 2 for r in reach), tuple(r - r // 2 for r in reach)
    elif isinstance(padding, str) and padding != "valid":
        raise ValueError(f'{owner}: padding must be integers, "same" or "valid"; got {padding!r}')
    if mode != "zeros":
        widths = [width for sides in reversed(list(zip(front, behind, strict=True))) for width in sides]
        return Padding(padding, mode, none, none, tuple(widths) if any(widths) else ())
    return Padding(padding, mode, behind, tuple(b - f for f, b in zip(front, behind, strict=True)))
