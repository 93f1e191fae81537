# SPDX-License-Identifier: Apache-2.0
"""The arguments of `pool_bits`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from bittern.ops.pool_bits.geometry import pooled_size


class PoolBitsArguments(NamedTuple):
    """As the schema names them; `bittern.ops.pool_bits` says what they mean."""

    x: Tensor
    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    ceil: bool = False
    flip: Tensor | None = None

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the result; below 1 where no window fits."""
        return pooled_size(self.x.shape[1:3], self.kernel, self.stride, self.padding, self.ceil)
