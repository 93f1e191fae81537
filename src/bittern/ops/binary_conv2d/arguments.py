# SPDX-License-Identifier: Apache-2.0
"""The arguments of `binary_conv2d`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from bittern.ops.binary_conv2d.geometry import output_size


class Conv2dArguments(NamedTuple):
    """As the schema names them; `bittern.ops.binary_conv2d` says what they mean."""

    x: Tensor
    w: Tensor
    channels: int
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int = 1
    pad_value: int = 0
    epilogue: Tensor | None = None

    @property
    def output_size(self) -> tuple[int, int]:
        """(out_h, out_w). Raises: ValueError when the dilated kernel does not fit into the padded image."""
        height, width = self.x.shape[1:3]
        kernel_h, kernel_w = self.w.shape[1:3]
        return output_size(height, width, kernel_h, kernel_w, self.stride, self.padding, self.dilation)
