# SPDX-License-Identifier: Apache-2.0
"""The arguments of `multibit_matvec`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class MultibitMatvecArguments(NamedTuple):
    """As the schema names them; `bittern.ops.multibit_matvec` says what they mean."""

    x: Tensor
    x_scale: Tensor
    w: Tensor
    w_scale: Tensor
    in_features: int
    bias: Tensor | None = None
