# SPDX-License-Identifier: Apache-2.0
"""Percentile clipping: the limit of the gradient norm follows the norms of the last steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from bittern.optim._layout import local_tensor

HISTORY = 100
"""Gradient norms that are remembered."""


class GradientNorms:
    """The squared gradient norms of the last 100 steps, in a ring; before that, copies of the first one fill it."""

    def __init__(self) -> None:
        self.squared: Tensor | None = None
        """float32 [100] on the device of the gradients, None before the first step."""
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers, for a checkpoint."""
        return {"count": self.count, "squared": None if self.squared is None else self.squared.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a checkpoint. Errors: ValueError unless `squared` has 100 elements."""
        squared = state["squared"]
        if squared is not None and tuple(squared.shape) != (HISTORY,):
            raise ValueError(f"GradientNorms: squared must be [{HISTORY}]; got {list(squared.shape)}")
        self.count = int(state["count"])
        self.squared = None if squared is None else squared.clone()

    def add(self, squared: Tensor) -> Tensor:
        """Remembers one squared norm if it is finite; returns the ring."""
        if self.squared is None:
            self.squared = torch.where(torch.isfinite(squared), squared, 0.0).float().repeat(HISTORY)
        ring = self.squared.to(squared.device)
        slot = self.count % HISTORY
        ring[slot] = torch.where(torch.isfinite(squared), squared, ring[slot])
        self.squared = ring
        self.count += 1
        return ring


@torch.no_grad()
def clip_grad_percentile_(params: Iterable[Tensor] | Tensor, history: GradientNorms, percentile: int) -> Tensor:
    """Scales the gradients in place to the norm that `percentile` % of the last 100 norms stay below; returns the norm.

    limit = sqrt of the sorted squared norms at index `percentile`; where the norm of all gradients together is larger,
    every gradient is multiplied by limit / norm. The present norm counts as one of the hundred. A norm that is not
    finite is neither remembered nor clipped: the optimizer's nonfinite= decides. percentile: 1 to 99.
    Errors: ValueError for another percentile or if no parameter has a gradient (as under `fuse_into_backward`).
    Origin: percentile clipping of bitsandbytes 0.37, there per tensor.
    """
    if not (isinstance(percentile, int) and 1 <= percentile < HISTORY):
        raise ValueError(f"clip_grad_percentile_: percentile must be an integer from 1 to 99; got {percentile}")
    params = [params] if isinstance(params, Tensor) else list(params)
    grads = [p.grad for p in params if p.grad is not None]
    if not grads:
        raise ValueError("clip_grad_percentile_: no parameter has a gradient; call it between backward() and step()")
    total = torch.nn.utils.get_total_norm(grads)
    norm = local_tensor(total.full_tensor() if hasattr(total, "full_tensor") else total)
    ring = history.add(norm.float() ** 2)
    limit = ring.sort().values[percentile].sqrt()
    scale = torch.where(torch.isfinite(norm) & (norm > limit), limit / norm, 1.0)
    for grad in grads:
        grad.mul_(scale.to(grad.device))
    return norm
