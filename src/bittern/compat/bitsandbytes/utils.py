# SPDX-License-Identifier: Apache-2.0
"""`bitsandbytes.utils`: replacing the linear layers of a model, and small helpers that libraries import from there."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

LINEAR_8BIT_WEIGHTS_FORMAT_MAPPING = {"row": 0, "col32": 1, "col_turing": 2, "col_ampere": 3}
"""Numbers of weight_format in files of 8-bit layers; only "row" still exists."""
INVERSE_LINEAR_8BIT_WEIGHTS_FORMAT_MAPPING = {
    number: name for name, number in LINEAR_8BIT_WEIGHTS_FORMAT_MAPPING.items()
}


def pack_dict_to_tensor(source_dict: dict[str, Any]) -> Tensor:
    """The dictionary as JSON in one tensor of uint8, which a state_dict can hold."""
    return torch.tensor(list(json.dumps(source_dict).encode("utf-8")), dtype=torch.uint8)


def unpack_tensor_to_dict(tensor_data: Tensor) -> dict[str, Any]:
    """The dictionary that `pack_dict_to_tensor` was given."""
    found: dict[str, Any] = json.loads(bytes(tensor_data.cpu().tolist()).decode("utf-8"))
    return found


def replace_linear(
    model: nn.Module,
    linear_replacement: Callable[[int, int, bool], nn.Module],
    skip_modules: Collection[str] = ("lm_head",),
    copy_weights: bool = False,
    post_processing_function: str | None = None,
) -> nn.Module:
    """Puts `linear_replacement(in_features, out_features, bias)` in place of every nn.Linear, and returns `model`.

    skip_modules: last parts of the names of layers that stay. copy_weights: the new layer takes over the parameters
    themselves. post_processing_function: the name of a method of the new layer that is called then.
    """
    for parent in list(model.modules()):
        for name, old in list(parent.named_children()):
            if isinstance(old, nn.Linear) and name not in skip_modules:
                setattr(parent, name, _replaced(old, linear_replacement, copy_weights, post_processing_function))
    return model


def _replaced(
    old: nn.Linear, make: Callable[[int, int, bool], nn.Module], copy_weights: bool, then: str | None
) -> nn.Module:
    new = make(old.in_features, old.out_features, old.bias is not None)
    if copy_weights:
        new.weight, new.bias = old.weight, old.bias
    if then is not None:
        getattr(new, then)()
    return new


def find_outlier_dims(
    weight: Tensor, reduction_dim: int = 0, zscore: float = 4.0, topk: int | None = None, rdm: bool = False
) -> Tensor:
    """Columns whose standard deviation lies more than zscore of its own deviations above the mean; int64.

    topk: the columns with the largest deviation instead. rdm: topk columns at random.
    Errors: ValueError for rdm without topk.
    """
    if rdm:
        if topk is None:
            raise ValueError("find_outlier_dims: rdm=True needs topk, the number of columns; got None")
        return torch.randint(weight.shape[1], (topk,), device=weight.device)
    deviation = weight.std(reduction_dim)
    if topk is not None:
        return deviation.topk(topk).indices
    return ((deviation - deviation.mean()) / deviation.std() > zscore).nonzero().view(-1)


def sync_gpu(t: Tensor) -> None:
    """Waits for the device of `t`; nothing to wait for on the CPU."""
    if t.device.type == "cuda":
        torch.cuda.synchronize(t.device)
