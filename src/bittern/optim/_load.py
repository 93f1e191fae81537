"""Reads state_dicts: this package's, torch.optim's, and through `_foreign` those of bitsandbytes and torchao."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import State, state_table
from bittern.optim._foreign import Coded, foreign_group, read
from bittern.optim._layout import Layout, decode, encode, equivalent, is_sharded, layout_for, stored_layout
from bittern.optim._options import STORAGE, Group
from bittern.optim._state import StateDict, as_floats, store

if TYPE_CHECKING:
    from bittern.optim._optimizer import LowBitOptimizer


def load(optimizer: LowBitOptimizer, state_dict: Mapping[str, Any], *, requantize: bool) -> None:
    """Replaces the states and hyper-parameters of `optimizer`; nothing changes if anything does not fit."""
    loaded: dict[str, Any] = dict(state_dict)
    for pre_hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        loaded = pre_hook(optimizer, loaded) or loaded
    owner = type(optimizer).__name__
    groups = optimizer.param_groups
    saved_groups = loaded["param_groups"]
    if [len(g["params"]) for g in groups] != [len(g["params"]) for g in saved_groups]:
        raise ValueError(
            f"{owner}: the state_dict has groups of {[len(g['params']) for g in saved_groups]} parameters, "
            f"this optimizer of {[len(g['params']) for g in groups]}"
        )
    new_groups = [_group(owner, group, saved) for group, saved in zip(groups, saved_groups, strict=True)]
    owners = {
        number: (p, group)
        for group, saved in zip(new_groups, saved_groups, strict=True)
        for number, p in zip(saved["params"], group["params"], strict=True)
    }
    states: dict[Any, Any] = {}
    for number, saved in loaded["state"].items():
        if number in owners:
            p, group = owners[number]
            states[p] = _state(optimizer, f"{owner}: state {number}", p, group, saved, requantize)
        else:
            states[number] = deepcopy(saved)
    for group in new_groups:
        optimizer.adjust_loaded(group)
        optimizer.check_group(group)
    optimizer.state.clear()
    optimizer.state.update(states)
    optimizer.__setstate__({"param_groups": new_groups})
    for post_hook in optimizer._optimizer_load_state_dict_post_hooks.values():
        post_hook(optimizer)


def _group(owner: str, group: Group, saved: Mapping[str, Any]) -> Group:
    """The saved hyper-parameters; what was not saved, and how states are stored here, stays."""
    saved = foreign_group(owner, saved)
    kept = {key: group[key] for key in ("params", "param_names", *STORAGE) if key in group}
    return {**group, **deepcopy({key: value for key, value in saved.items() if key != "params"}), **kept}


def _state(
    optimizer: LowBitOptimizer, subject: str, p: Tensor, group: Group, saved: Mapping[str, Any], requantize: bool
) -> StateDict:
    """The state of `p`, from a saved one of any of the known formats."""
    specs = optimizer.states(group)
    found = read(subject, saved, specs)
    missing = [name for name, _ in specs if found.get(name) is None]
    if not found:
        return {}  # torch.optim.SGD before its first step with momentum
    if missing:
        raise ValueError(f"{subject} is of another rule: {missing[0]!r} is missing among {', '.join(sorted(saved))}")
    result: StateDict = {}
    for name in optimizer.counters:
        if found.get(name) is None:
            raise ValueError(f"{subject} is of another rule: {name!r} is missing among {', '.join(sorted(saved))}")
        result[name] = torch.as_tensor(found.pop(name), dtype=torch.float32, device="cpu").clone()
    for spec in specs:
        values, absmax = found.pop(spec.name), found.pop(f"{spec.name}_absmax", None)
        store(result, spec.name, _adopt(f"{subject}.{spec.name}", p, group, spec, values, absmax, requantize))
    found.pop("step", None)
    unknown = sorted(name for name in found if name not in optimizer.other_states)
    if unknown:
        raise ValueError(f"{subject} is of another rule: this one has no {unknown[0]!r}")
    for name, value in found.items():
        result[name] = value.to(p.device, copy=True) if isinstance(value, Tensor) else deepcopy(value)
    return result


def _adopt(
    subject: str, p: Tensor, group: Group, spec: State, saved: Tensor | Coded, absmax: Tensor | None, requantize: bool
) -> tuple[Tensor, Tensor | None]:
    """One saved state as the group stores it; ValueError if it does not fit or would lose precision unasked."""
    wanted = layout_for(p, group)
    code = None
    if isinstance(saved, Coded):
        values, absmax, code = saved
    else:
        values = saved
    values, absmax = values.to(p.device), None if absmax is None else absmax.to(p.device)
    try:
        found = stored_layout(p, values, absmax)
    except ValueError as error:
        raise ValueError(f"{subject} is {error}: it does not fit a parameter {list(p.shape)}") from None
    other_code = code is not None and not torch.equal(code.cpu().float(), state_table(spec.signed, found.bits))
    if equivalent(found, wanted) and not other_code and _same_strides(p, values, found):
        if absmax is None and not is_sharded(p):
            return _float_copy(p, values), None
        return values.clone(), None if absmax is None else absmax.clone()
    if not requantize and not (equivalent(found, wanted) and not other_code):
        raise ValueError(
            f"{subject} is stored as {_words(found, other_code)}, this optimizer stores {_words(wanted, False)}; "
            "pass requantize=True to convert it"
        )
    if absmax is None:
        return encode(p, values.float(), spec.signed, wanted)
    if code is None:
        floats = as_floats(p, values, absmax, spec.signed, found)
    else:
        floats = decode(p, values, absmax, code.float(), found)
    return encode(p, floats, spec.signed, wanted)


def _float_copy(p: Tensor, values: Tensor) -> Tensor:
    return torch.empty_like(p, dtype=torch.float32, memory_format=torch.preserve_format).copy_(values)


def _same_strides(p: Tensor, values: Tensor, layout: Layout) -> bool:
    if layout.bits != 8:
        return True  # floats are copied by index; 4-bit codes have no strides
    dense = torch.empty_like(p, device="meta", memory_format=torch.preserve_format).stride()
    return all(a == b for a, b, size in zip(values.stride(), dense, p.shape, strict=True) if size > 1)


def _words(layout: Layout, other_code: bool) -> str:
    if layout.bits == 32:
        return "32-bit floats"
    table_words = " with another code table" if other_code else ""
    return f"{layout.bits} bits in blocks of {layout.block_size}{table_words}"
