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
    return _copied(model, {id(tensor): tensor for tensor in shared})


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy whose parameters lie in the memory of the model's, for forwards that write into none of them.

    They are objects of the copy's own: moved, or set not to require gradients, they leave the model as it was.
    """
    own = (p for p in model.parameters() if type(p) is nn.Parameter and not p.is_inference())
    return _copied(model, {id(p): nn.Parameter(p.detach(), p.requires_grad) for p in own})


def _copied(model: nn.Module, instead: dict[int, object]) -> nn.Module:
    """instead: what stands in the copy for an object of the model, by its id."""
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                instead.setdefault(id(value), value.detach().clone())
    return copy.deepcopy(model, instead)
