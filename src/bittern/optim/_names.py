# SPDX-License-Identifier: Apache-2.0
"""Names of the states in a state_dict: codes have names that no other optimizer reads as numbers.

In memory a state lies under torch's name, "exp_avg", and a quantized one has "exp_avg_absmax" beside it. In a
state_dict its codes are called "exp_avg_8bit" or "exp_avg_4bit". So torch.optim, or torch.distributed.checkpoint with
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

Saved = dict[str, Any]

ABSMAX = "_absmax"
SUFFIXES = {8: "_8bit", 4: "_4bit"}
GUARD = "not_for_torch_optim"
"""The key that only a guard has."""
_MOMENTUM = "momentum_buffer"
_ADVICE = "its states are codes; bittern.optim.to_torch decodes them"


def to_saved(state: Mapping[str, Any], shape: Sequence[int]) -> Saved:
    """The state of one parameter of this shape by the names of a state_dict; 8-bit codes have its shape, 4-bit not."""
    result: Saved = {}
    for key, value in state.items():
        coded = f"{key}{ABSMAX}" in state
        if coded and key == _MOMENTUM:
            result[key] = torch.empty(0)
        result[f"{key}{SUFFIXES[8 if tuple(value.shape) == tuple(shape) else 4]}" if coded else key] = value
    return result


def to_memory(subject: str, saved: Mapping[str, Any]) -> Saved:
    """The same by the names in memory; ValueError if one state is there twice or says another number of bits."""
    result: Saved = {}
    for key, value in saved.items():
        name, bits = _split(key)
        if key == _MOMENTUM and isinstance(value, Tensor) and not value.numel() and _MOMENTUM in named_bits(saved):
            continue
        if name in result:
            raise ValueError(f"{subject} holds the state {name!r} twice; remove one of {', '.join(sorted(saved))}")
        if bits is not None and f"{name}{ABSMAX}" not in saved:
            raise ValueError(
                f"{subject} holds codes {key!r} without their scales {name + ABSMAX!r}; save and load both together"
            )
        result[name] = value
    return result


def named_bits(saved: Mapping[str, Any]) -> dict[str, int]:
    """How many bits the names say, by state."""
    found = (_split(key) for key in saved)
    return {name: bits for name, bits in found if bits is not None}


def _split(key: Any) -> tuple[Any, int | None]:
    for bits, suffix in SUFFIXES.items():
        if isinstance(key, str) and key.endswith(suffix):
            return key.removesuffix(suffix), bits
    return key, None


def holds_codes(states: Mapping[Any, Any]) -> bool:
    """Whether any state of a state_dict is stored in codes."""
    return any(isinstance(state, Mapping) and bool(named_bits(state)) for state in states.values())


def for_torch_to_refuse(saved: Saved) -> Saved:
    """The state_dict with a guard, but for a momentum in codes among several processes, which has its empty tensor."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    if several and any(_MOMENTUM in named_bits(state) for state in saved["state"].values()):
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
