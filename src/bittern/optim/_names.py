# SPDX-License-Identifier: Apache-2.0
"""Names of the states in a state_dict: codes have names that no other optimizer reads as numbers.

In memory a state lies under torch's name, "exp_avg", and a quantized one has "exp_avg_absmax" beside it. In a
state_dict its codes are called "exp_avg_8bit" or "exp_avg_4bit"; squares on a logarithmic scale "..._4bit_log", and
means relative to their roots "..._4bit_ratio". So torch.optim, or torch.distributed.checkpoint with
another number of bits, misses "exp_avg" and raises, instead of taking codes from 0 to 255 for a momentum.

torch.optim.SGD and Muon start a missing momentum anew without a word. So beside the codes of a momentum,
"momentum_buffer" is an empty tensor, which their step cannot add to a gradient. torch.optim.Adafactor knows no
momentum at all. In a single process the state_dicts of these rules also end in an empty parameter group, the guard:
torch's load_state_dict compares the number of groups and raises. ZeroRedundancyOptimizer compares it as well, so there
is none where a process group is.

State_dicts with codes under torch's names, as they were written before, are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, Storage

Saved = dict[str, Any]

ABSMAX = "_absmax"
SUFFIXES = {
    Storage.BYTES: "_8bit",
    Storage.NIBBLES: "_4bit",
    Storage.LOGARITHMS: "_4bit_log",
    Storage.RATIOS: "_4bit_ratio",
}
_RELATIVE = {state.name for spec in SPECS.values() for state in spec.states if state.relative}
GUARD = "not_for_torch_optim"
"""The key that only a guard has."""
_MOMENTUM = "momentum_buffer"
_ADVICE = "its states are codes; bittern.optim.to_torch decodes them"


def to_saved(state: Mapping[str, Any], shape: Sequence[int]) -> Saved:
    """The state of one parameter of this shape by the names of a state_dict; 8-bit codes have its shape, 4-bit not."""
    result: Saved = {}
    logarithmic = any(key.endswith(ABSMAX) and has_levels(value) for key, value in state.items())
    for key, value in state.items():
        absmax = state.get(f"{key}{ABSMAX}")
        if absmax is not None and key == _MOMENTUM:
            result[key] = torch.empty(0)
        result[key if absmax is None else f"{key}{SUFFIXES[_storage(key, value, absmax, shape, logarithmic)]}"] = value
    return result


def has_levels(absmax: Tensor) -> bool:
    """Whether the scales of a state are two levels a block: of squares on a logarithmic scale."""
    return absmax.ndim == (3 if hasattr(absmax, "to_local") else 2)


def _storage(name: str, codes: Tensor, absmax: Tensor, shape: Sequence[int], logarithmic: bool) -> Storage:
    if has_levels(absmax):
        return Storage.LOGARITHMS
    if tuple(codes.shape) == tuple(shape):
        return Storage.BYTES
    return Storage.RATIOS if logarithmic and name in _RELATIVE else Storage.NIBBLES


def to_memory(subject: str, saved: Mapping[str, Any]) -> Saved:
    """The same by the names in memory; ValueError if one state is there twice or says another number of bits."""
    result: Saved = {}
    for key, value in saved.items():
        name, storage = _split(key)
        if key == _MOMENTUM and isinstance(value, Tensor) and not value.numel() and _MOMENTUM in named_storages(saved):
            continue
        if name in result:
            raise ValueError(f"{subject} holds the state {name!r} twice; remove one of {', '.join(sorted(saved))}")
        if storage is not None and f"{name}{ABSMAX}" not in saved:
            raise ValueError(
                f"{subject} holds codes {key!r} without their scales {name + ABSMAX!r}; save and load both together"
            )
        result[name] = value
    return result


def named_storages(saved: Mapping[str, Any]) -> dict[str, Storage]:
    """How codes are stored by what their names say, by state."""
    found = (_split(key) for key in saved)
    return {name: storage for name, storage in found if storage is not None}


def _split(key: Any) -> tuple[Any, Storage | None]:
    for storage, suffix in SUFFIXES.items():
        if isinstance(key, str) and key.endswith(suffix):
            return key.removesuffix(suffix), storage
    return key, None


def holds_codes(states: Mapping[Any, Any]) -> bool:
    """Whether any state of a state_dict is stored in codes."""
    return any(isinstance(state, Mapping) and bool(named_storages(state)) for state in states.values())


def for_torch_to_refuse(saved: Saved) -> Saved:
    """The state_dict with a guard, but for a momentum in codes among several processes, which has its empty tensor."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    if several and any(_MOMENTUM in named_storages(state) for state in saved["state"].values()):
        return saved
    return _with_guard(saved)


def _with_guard(saved: Saved) -> Saved:
    """The state_dict with a guard; it repeats the first group's arguments for readers that look at every group."""
    first = saved["param_groups"][0]
    guard = {**first, "params": [], GUARD: _ADVICE}
    if "param_names" in first:
        guard["param_names"] = []
    return {**saved, "param_groups": [*saved["param_groups"], guard]}


def without_guard(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The groups that hold parameters."""
    return [group for group in groups if GUARD not in group]


def old_names(state_dict: Mapping[str, Any]) -> Saved:
    """A state_dict with codes under torch's names, as this package wrote it before: a shape for old files to fill.

    `torch.distributed.checkpoint.load` wants the names that are in its files. For a checkpoint written with the old
    ones, give it `old_names(...)` of a present state_dict; `load_state_dict` then takes the result.
    """
    state = {
        key: to_memory("old_names: a state", value) if isinstance(value, Mapping) else value
        for key, value in state_dict["state"].items()
    }
    return {**state_dict, "state": state, "param_groups": [dict(g) for g in without_guard(state_dict["param_groups"])]}


def is_flattened(p: Tensor) -> bool:
    """Whether FSDP1 (`FullyShardedDataParallel`) holds `p` as a piece of a flat parameter."""
    return bool(getattr(p, "_fsdp_flattened", False))
