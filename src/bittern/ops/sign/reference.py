# SPDX-License-Identifier: Apache-2.0
"""The meaning of `sign` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor


def sign_reference(x: Tensor) -> Tensor:
    """+1 where x >= 0 (so also at -0.0), else -1 (so also at NaN), in the dtype of x."""
    one = torch.ones((), dtype=x.dtype, device=x.device)
    return torch.empty_like(x).copy_(torch.where(x >= 0, one, -one))
