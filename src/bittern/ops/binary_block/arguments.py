# SPDX-License-Identifier: Apache-2.0
"""The arguments of `binary_block`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from bittern.ops.binary_conv2d.arguments import Conv2dArguments


class BlockArguments(NamedTuple):
    """As the schema names them; `bittern.ops.binary_block` says what they mean."""

    x: Tensor
    w: Tensor
    channels: int
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    pad_value: int
    epilogue: Tensor
    activation: int = 0
    parameters: Tensor | None = None
    threshold: Tensor | None = None
    residual: Tensor | None = None
    residual_pool: int = 1
    residual_shift: int = 0
    residual_repeats: bool = False
    residual_last: bool = False
    residual_affine: Tensor | None = None
    factor: Tensor | None = None
    input_scale: Tensor | None = None

    @property
    def conv2d(self) -> Conv2dArguments:
        """The convolution with its epilogue, which come first."""
        return Conv2dArguments(*self[:9])
