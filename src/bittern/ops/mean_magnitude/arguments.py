# SPDX-License-Identifier: Apache-2.0
"""The arguments of `window_mean`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class WindowMeanArguments(NamedTuple):
    """As the schema names them; `bittern.ops.mean_magnitude` says what they mean."""

    means: Tensor
    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]

    @property
    def out_size(self) -> tuple[int, ...]:
        """Windows along each dimension of space."""
        return tuple(
            (size + 2 * pad - dilation * (taps - 1) - 1) // step + 1
            for size, taps, step, pad, dilation in zip(
                self.means.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
