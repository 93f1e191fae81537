# SPDX-License-Identifier: Apache-2.0
"""Checks of what a state_dict brings, made before anything of it is taken: what passes here can be stepped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from bittern.optim._layout import is_sharded, local_tensor
from bittern.optim._names import without_guard
from bittern.optim._options import Group

MOST_STEPS = 2**24
"""A float32 counter goes up to here and stays."""


def parts(owner: str, loaded: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Mapping[Any, Any]]:
    """The groups without guard, and the states, of a state_dict whose outer form is right; ValueError otherwise."""
    for key, kind in (("state", Mapping), ("param_groups", Sequence)):
        if not isinstance(loaded.get(key), kind):
            raise ValueError(f"{owner}: a state_dict needs {key!r}; got {_kind(loaded.get(key))}")
    for i, group in enumerate(loaded["param_groups"]):
        if not isinstance(group, Mapping) or not isinstance(group.get("params"), Sequence):
            raise ValueError(
                f"{owner}: param_groups[{i}] of a state_dict must be a dictionary with a list 'params'; "
                f"got {_kind(group)}"
            )
    groups = without_guard(loaded["param_groups"])
    numbers = [number for group in groups for number in group["params"]]
    if not all(isinstance(number, int | str) for number in numbers) or len(set(numbers)) != len(numbers):
        raise ValueError(f"{owner}: 'params' of a state_dict must be different numbers or names; got {numbers[:20]}")
    for number, state in loaded["state"].items():
        if not isinstance(state, Mapping):
            raise ValueError(f"{owner}: state {number} must be a dictionary of tensors; got {_kind(state)}")
    return groups, loaded["state"]


def check_like(owner: str, index: int, saved: Mapping[str, Any], group: Group) -> None:
    """ValueError where a saved hyper-parameter is of another kind than the optimizer's own."""
    for name, own in group.items():
        if name not in saved or name in ("params", "param_names"):
            continue
        came = saved[name]
        if not _alike(own, came):
            raise ValueError(
                f"{owner}: {name} must be of the kind of {own!r}; got {came!r} in param_groups[{index}] of the "
                "state_dict; it may be of another rule"
            )


def _alike(own: Any, came: Any) -> bool:
    if isinstance(own, bool):
        return came is None or (isinstance(came, bool | int) and came in (0, 1))
    if isinstance(own, Real | Tensor):
        return _is_number(came)
    if isinstance(own, list | tuple):
        same = isinstance(came, list | tuple) and len(came) == len(own)
        return same and all(b is None or _alike(a, b) for a, b in zip(own, came, strict=True))  # Adafactor's eps
    return True


def _is_number(x: Any) -> bool:
    """Whether `x` is a real number other than NaN that a float can hold, or a tensor of one."""
    if isinstance(x, Tensor):
        return x.numel() == 1 and not x.is_complex() and not x.is_meta and _is_number(x.detach().item())
    try:
        return not isinstance(x, bool) and isinstance(x, Real) and not math.isnan(x)
    except OverflowError:
        return False


def check_tensor(subject: str, value: Any, p: Tensor) -> Tensor:
    """`value`, a dense tensor with contents, sharded like `p`; ValueError for anything else."""
    if not isinstance(value, Tensor):
        raise ValueError(f"{subject} must be a tensor; got {_kind(value)}")
    if value.layout is not torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
        raise ValueError(f"{subject} must be a dense real tensor with contents; got {_kind(value)}")
    if is_sharded(value) != is_sharded(p):
        raise ValueError(f"{subject} is {_sharding(value)}, its parameter {_sharding(p)}; shard both alike")
    if is_sharded(p) and (value.placements != p.placements or value.device_mesh != p.device_mesh):  # type: ignore[attr-defined]
        raise ValueError(f"{subject} is {_sharding(value)}, its parameter {_sharding(p)}; shard both alike")
    return value.detach()


def check_values(subject: str, values: Tensor, *, signed: bool) -> None:
    """ValueError unless all values are finite and, where not signed, at least 0: others would freeze or spread."""
    local = local_tensor(values).float()
    if not bool(torch.isfinite(local).all()):
        count = int((~torch.isfinite(local)).sum())
        raise ValueError(f"{subject} has {count} values that are not finite; replace them, e.g. by nan_to_num(0, 0, 0)")
    if not signed and bool((local < 0).any()):
        raise ValueError(f"{subject} must be at least 0 everywhere; got {float(local.min())}")


def check_floats(subject: str, value: Any, p: Tensor, shape: Sequence[int], *, signed: bool) -> Tensor:
    """`value`, a float tensor of this shape with values that a step can use; ValueError for anything else."""
    tensor = check_tensor(subject, value, p)
    if not tensor.is_floating_point() or tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{subject} must be floats {list(shape)}; got {_kind(tensor)}")
    check_values(subject, tensor, signed=signed)
    return tensor


def check_absmax(subject: str, value: Any, p: Tensor) -> Tensor:
    """`value`, the float32 scales of a quantized state; ValueError for anything else."""
    tensor = check_tensor(subject, value, p)
    if tensor.dtype != torch.float32:
        raise ValueError(f"{subject} must be float32; got {tensor.dtype}; converting it would change every value")
    check_values(subject, tensor, signed=False)
    return tensor


def check_levels(subject: str, levels: Tensor) -> None:
    """ValueError unless every block's lowest level lies at or below its largest."""
    pairs = local_tensor(levels).reshape(-1, 2)
    if not bool((pairs[:, 1] <= pairs[:, 0]).all()):
        raise ValueError(f"{subject} must hold the largest, then the lowest level of a block; got them otherwise")


def check_table(subject: str, value: Tensor) -> None:
    """ValueError unless `value` is a code table: 16 or 256 finite floats from -1 to 1."""
    right = value.is_floating_point() and value.ndim == 1 and value.numel() in (16, 256)
    if not right or not bool((value.abs() <= 1).all()):
        raise ValueError(f"{subject}: a code table is 16 or 256 floats from -1 to 1; got {_kind(value)}")


def counter(subject: str, name: str, value: Any, most: float) -> Tensor:
    """`value` as a float32 counter on the CPU: whole steps, or a number from 0 to `most`; ValueError for others."""
    if isinstance(value, Tensor):
        value = local_tensor(value.detach())
    if not _is_number(value):
        raise ValueError(f"{subject}.{name} must be one number; got {_kind(value)}")
    number = float(value)
    if not 0 <= number <= most or (name == "step" and number != int(number)):
        rule = f"a whole number from 0 to {most:g}" if name == "step" else f"from 0 to {most:g}"
        raise ValueError(f"{subject}.{name} must be {rule}; got {number}")
    return torch.tensor(number, dtype=torch.float32)


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    layout = "" if value.layout is torch.strided else f" {value.layout}"
    return f"{value.dtype} {list(value.shape)} on {value.device}{layout}"


def _sharding(value: Tensor) -> str:
    return f"a DTensor {value.placements}" if is_sharded(value) else "a whole tensor"  # type: ignore[attr-defined]


def check_apart(subject: str, states: Mapping[str, Any]) -> None:
    """ValueError where all states of a parameter are the same numbers, and not all 0.

    `FullyShardedDataParallel.optim_state_dict` of torch 2.13 gathers all states of CPU parameters in one buffer and
    with offload_to_cpu=True, its default, returns views of it: each is then the state that was gathered last.
    """
    values = [value for value in states.values() if isinstance(value, Tensor)]
    if len(values) < 2 or len(values) < len(states) or not values[0].any():
        return
    if all(torch.equal(values[0], value) for value in values[1:]):
        raise ValueError(
            f"{subject} has the same numbers for {', '.join(states)}: FSDP1's optim_state_dict overwrites states of "
            "CPU parameters; save with FullOptimStateDictConfig(offload_to_cpu=False), or shard with fully_shard"
        )
