# SPDX-License-Identifier: Apache-2.0
"""The arguments of `linear_8bit`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Linear8bitArguments(NamedTuple):
    """As the schema names them; `bittern.ops.linear_8bit` says what they mean."""

    x: Tensor
    weight: Tensor
    scale: Tensor
    bias: Tensor | None = None
    threshold: float = 0.0
