# SPDX-License-Identifier: Apache-2.0
"""What autocast does to low-bit layers: nothing.

Sums of signs and of codes are exact in float32 up to 2^24, in bfloat16 up to 2^8 and in float16 up to 2^11, and a scale
that is rounded moves a code to its neighbour. So a low-bit layer takes an input of any floating type to that of its
weights, which changes no number, and computes as it does without autocast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

F = TypeVar("F", bound=Callable[..., Any])


def in_own_precision(forward: F) -> F:
    """A method of a module that computes without autocast, its floating tensors in the type of its first parameter."""

    @functools.wraps(forward)
    def computed(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        device_type = _casting(*args, *kwargs.values(), *self.parameters())
        if device_type is None:
            return forward(self, *args, **kwargs)
        held = next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)
        with torch.autocast(device_type, enabled=False):
            return forward(
                self, *(_widened(arg, held) for arg in args), **{k: _widened(v, held) for k, v in kwargs.items()}
            )

    return computed  # type: ignore[return-value]


def _casting(*values: Any) -> str | None:
    """The device type of the first tensor, where autocast is on for it."""
    device_type = next((v.device.type for v in values if isinstance(v, Tensor)), "cpu")
    if device_type not in ("cpu", "cuda"):  # meta tensors have no autocast
        return None
    return device_type if torch.is_autocast_enabled(device_type) else None


def _widened(value: Any, held: torch.dtype) -> Any:
    """value in `held`, where it is a tensor of a narrower floating type."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.element_size() >= held.itemsize:
        return value
    return value.to(held)
