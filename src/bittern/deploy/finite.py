# SPDX-License-Identifier: Apache-2.0
"""Whether numbers are finite, in one pass and without a mask of them: weights may be large."""

from __future__ import annotations

from torch import Tensor


def all_finite(x: Tensor) -> bool:
    """Whether no entry is NaN or infinite."""
    return x.numel() == 0 or all(bool(end.isfinite()) for end in x.aminmax())


def any_nan(x: Tensor) -> bool:
    """Whether an entry is NaN: the least one then is."""
    return x.numel() > 0 and bool(x.aminmax().min.isnan())
