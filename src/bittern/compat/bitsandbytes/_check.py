# SPDX-License-Identifier: Apache-2.0
"""What the functions ask of their tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def check_kind(op: str, name: str, x: Tensor, *dtypes: torch.dtype) -> None:
    """Raises: ValueError, as bitsandbytes does, unless `x` is a tensor of one of these types."""
    if not isinstance(x, Tensor) or x.dtype not in dtypes:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        came = str(x.dtype).removeprefix("torch.") if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{op}: {name} must be a tensor of {' or '.join(names.rsplit(', ', 1))}; got {came}")
