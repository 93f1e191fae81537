# SPDX-License-Identifier: Apache-2.0
"""The arguments of `linear_4bit` and of `linear_4bit_backward`."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Linear4bitArguments(NamedTuple):
    """As the schema names them; `bittern.ops.linear_4bit` says what they mean."""

    x: Tensor
    packed: Tensor
    absmax: Tensor
    code: Tensor
    block_size: int
    out_features: int
    bias: Tensor | None = None
    absmax_scales: Tensor | None = None
    absmax_offset: Tensor | None = None


class BackwardArguments(NamedTuple):
    """Those of `linear_4bit_backward`."""

    grad: Tensor
    packed: Tensor
    absmax: Tensor
    code: Tensor
    block_size: int
    in_features: int
    absmax_scales: Tensor | None = None
    absmax_offset: Tensor | None = None
