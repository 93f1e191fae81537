# SPDX-License-Identifier: Apache-2.0
"""Known numbers for each channel that are added to a value or multiplied with it: a native node `affine`."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.deploy.front.builder import Builder, Ref
from bittern.deploy.front.call import Call
from bittern.deploy.front.sizes import Rows

ALONG_CHANNELS = ("add.Tensor", "sub.Tensor", "mul.Tensor")
"""Operators of a value and a known number for each channel that are one map x * alpha + beta."""


def along_channels(b: Builder, call: Call, inputs: list[Rows], out: Rows) -> Ref | None:
    """A sum has alpha = 1 or -1 and a product beta = -0, so that the map rounds once, as torch, and keeps a -0."""
    left, right = call["self"], call["other"]
    value, known = (left, right) if isinstance(left, Ref) else (right, left)
    if not isinstance(value, Ref) or not isinstance(known, Tensor) or call.arguments.get("alpha", 1) != 1:
        return None
    if out.ndim < 2 or inputs[0].shape != out.shape or known.ndim > out.ndim or known.dtype != torch.float32:
        return None
    wanted = (1, out.shape[1], *(1,) * (out.ndim - 2))
    if (*(1,) * (out.ndim - known.ndim), *known.shape) != wanted or not bool(known.isfinite().all()):
        return None
    numbers = known.detach().flatten()
    if call.operator == "mul.Tensor":
        rows = (numbers, torch.full_like(numbers, -0.0))
    elif call.operator == "add.Tensor":
        rows = (torch.ones_like(numbers), numbers)
    else:
        sign = 1.0 if value is left else -1.0
        rows = (torch.full_like(numbers, sign), -sign * numbers)
    return b.add("affine", call.name, (value,), {"affine": torch.stack(rows)})
