# SPDX-License-Identifier: Apache-2.0
"""Bytes that a graph keeps for its backward.

Counted through `torch.autograd.graph.saved_tensors_hooks`, which sees every tensor that an operator saves, torch's or
one of a library. A storage counts once and whole, however many tensors look into it; storages of parameters, buffers
and the batch do not count, because they are there without a graph. What an operator keeps past autograd, as an
attribute of its context, is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def saved_bytes(forward: Callable[[], Tensor], held: Iterable[Tensor]) -> int:
    """Of the graph behind forward()'s result; held: tensors whose storages do not count."""
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no other gets its place while we count
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    outside = {tensor.untyped_storage().data_ptr() for tensor in held}
    found = sum(storage.nbytes() for place, storage in kept.items() if place not in outside)
    del result
    return found
