# SPDX-License-Identifier: Apache-2.0
"""What every layer asks of its input before it looks at the shape."""

from __future__ import annotations

from torch import Tensor


def check_tensor(owner: str, x: object) -> None:
    """Raises: TypeError unless `x` is a tensor; a numpy array has a dtype and a shape, and would come further."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{owner}: x must be a tensor; got {type(x).__name__}; make it one by torch.as_tensor")


def check_floating(owner: str, x: Tensor) -> None:
    """Raises: TypeError unless `x` is a floating-point tensor."""
    check_tensor(owner, x)
    if not x.is_floating_point():
        raise TypeError(f"{owner}: the input must be floating point; got {x.dtype}; call .float() first")
