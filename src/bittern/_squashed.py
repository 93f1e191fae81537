# SPDX-License-Identifier: Apache-2.0
"""DoReFa's map of a weight into [0, 1] (1606.06160), which other methods share."""

from __future__ import annotations

import torch
from torch import Tensor


def squashed(w: Tensor) -> Tensor:
    """tanh(w) / (2 max|tanh w|) + 1/2, in [0, 1]; 1/2 for a weight of zeros."""
    bent = torch.tanh(w)
    largest = bent.abs().amax()
    return bent / (2.0 * torch.where(largest == 0.0, 1.0, largest)) + 0.5
