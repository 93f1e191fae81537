# SPDX-License-Identifier: Apache-2.0
"""A running mean that torch operations move, where a rule has no native step: read, moved and stored in its bits."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._random import random32
from bittern.ops.optimizer_step import State
from bittern.optim._batch import state_seed
from bittern.optim._layout import encode, first_element, layout_for, local_tensor
from bittern.optim._options import Group
from bittern.optim._state import StateDict, decoded, store


def moved_mean(
    p: Tensor, state: StateDict, spec: State, group: Group, *, number: int, toward: Tensor, keep: float, good: Tensor
) -> Tensor:
    """The new m = keep m + (1 - keep) toward, as it is before it is stored; m where not `good`.

    toward, good: of what this process has of `p`. number: of `p` among the optimizer's, for the random bits.
    """
    old = decoded(state, p, (spec,))[spec.name]
    mean = torch.where(good, torch.lerp(toward, old, keep), old)
    layout = layout_for(p, group)
    chance = _chances(p, int(state["step"]), number) if layout.logarithmic else None
    store(state, spec.name, encode(p, mean, spec, layout, chance=chance))
    return mean


def _chances(p: Tensor, step: int, number: int) -> Tensor:
    """U of every element that this process has of `p`, in memory order, as `optimizer_step` draws it for one state."""
    local = local_tensor(p)
    seed = (int(state_seed(step, number)) + first_element(p)) % 2**64
    random = random32(seed, torch.arange(local.numel(), device=local.device))
    return (random & 0xFFFF).float() * 2.0**-16
