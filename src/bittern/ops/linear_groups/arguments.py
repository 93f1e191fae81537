# SPDX-License-Identifier: Apache-2.0
"""The arguments of `linear_groups` and of `dequantize_groups`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LinearGroupsArguments(NamedTuple):
    """As the schema names them; `bittern.ops.linear_groups` says what they mean."""

    x: Tensor
    codes: Tensor
    scale: Tensor
    zero: Tensor | None
    group: int
    out_features: int
    bias: Tensor | None = None
    int8: bool = False


class DequantizeGroupsArguments(NamedTuple):
    """Those of `dequantize_groups`."""

    codes: Tensor
    scale: Tensor
    zero: Tensor | None
    group: int
    out_features: int
    in_features: int
    dtype: torch.dtype = torch.float32
