# SPDX-License-Identifier: Apache-2.0
"""Copies of models."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch import Tensor, nn


def copied(model: nn.Module, shared: Iterable[Tensor] = ()) -> nn.Module:
    """A deep copy of a model, apart from tensors that it goes on sharing.

    Tensors among its attributes that were computed with gradients, which torch refuses to copy, are copied as the
    numbers that they are: old hooks of torch keep weights so (weight_norm, prune) and compute them again at every call.
    """
    memo: dict[int, object] = {id(tensor): tensor for tensor in shared}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    return copy.deepcopy(model, memo)
