# SPDX-License-Identifier: Apache-2.0
"""The arguments of `dequantize_blockwise` and of `dequantize_4bit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class DequantizeArguments(NamedTuple):
    """As the schema names them; `bittern.ops.dequantize_blockwise` says what they mean."""

    codes: Tensor
    absmax: Tensor
    code: Tensor
    block_size: int = 256
    dtype: torch.dtype = torch.float32


class Dequantize4bitArguments(NamedTuple):
    """Those of `dequantize_4bit`."""

    packed: Tensor
    absmax: Tensor
    code: Tensor
    block_size: int
    shape: Sequence[int]
    dtype: torch.dtype = torch.float32
