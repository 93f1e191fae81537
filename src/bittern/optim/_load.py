# SPDX-License-Identifier: Apache-2.0
"""Reads state_dicts: this package's, torch.optim's, and through `_foreign` those of bitsandbytes and torchao."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from bittern.ops.optimizer_step import State, state_table
from bittern.optim import _loaded as check
from bittern.optim._foreign import Coded, foreign_group, read
from bittern.optim._layout import Layout, decode, encode, equivalent, is_sharded, layout_for, stored_layout
from bittern.optim._names import ABSMAX, is_flattened, named_bits, to_memory
from bittern.optim._options import STORAGE, Group, check_options
from bittern.optim._state import StateDict, as_floats, store

if TYPE_CHECKING:
    from bittern.optim._optimizer import LowBitOptimizer


class _Place(NamedTuple):
    """Where a state goes: words for errors, its parameter and group, and whether it may be converted."""

    subject: str
    p: Tensor
    group: Group
    requantize: bool


def load(optimizer: LowBitOptimizer, state_dict: Mapping[str, Any], *, requantize: bool) -> None:
    """Replaces the states and hyper-parameters of `optimizer`; nothing changes if anything does not fit."""
    loaded: dict[str, Any] = dict(state_dict)
    for pre_hook in optimizer._optimizer_load_state_dict_pre_hooks.values():
        loaded = pre_hook(optimizer, loaded) or loaded
    owner = type(optimizer).__name__
    saved_groups, saved_states = check.parts(owner, loaded)
    groups = optimizer.param_groups
    if [len(g["params"]) for g in groups] != [len(g["params"]) for g in saved_groups]:
        raise ValueError(
            f"{owner}: the state_dict has groups of {[len(g['params']) for g in saved_groups]} parameters, "
            f"this optimizer of {[len(g['params']) for g in groups]}; give it the groups of the one that was saved"
        )
    new_groups = [_group(optimizer, i, *pair) for i, pair in enumerate(zip(groups, saved_groups, strict=True))]
    owners = {
        number: (p, group)
        for group, saved in zip(new_groups, saved_groups, strict=True)
        for number, p in zip(saved["params"], group["params"], strict=True)
    }
    states: dict[Any, Any] = {}
    for number, saved in saved_states.items():
        if number in owners:
            p, group = owners[number]
            place = _Place(f"{owner}: state {number}", p, group, requantize or is_flattened(p))
            states[p] = _state(optimizer, place, saved)
        else:
            states[number] = deepcopy(saved)
    optimizer.state.clear()
    optimizer.state.update(states)
    optimizer.__setstate__({"param_groups": new_groups})
    for post_hook in optimizer._optimizer_load_state_dict_post_hooks.values():
        post_hook(optimizer)


def _group(optimizer: LowBitOptimizer, index: int, group: Group, saved: Mapping[str, Any]) -> Group:
    """The saved hyper-parameters, checked; what was not saved, and how states are stored here, stays."""
    owner = type(optimizer).__name__
    saved = foreign_group(owner, saved)
    kept = {key: group[key] for key in ("params", "param_names", *STORAGE) if key in group}
    check.check_like(owner, index, saved, {key: value for key, value in group.items() if key not in kept})
    new = {**group, **deepcopy({key: value for key, value in saved.items() if key != "params"}), **kept}
    optimizer.adjust_loaded(new)
    try:
        check_options(owner, {**new, "foreach": None, "fused": None})  # how torch.optim ran is nothing to refuse
        optimizer.check_group(new)
    except TypeError as error:
        raise ValueError(
            f"{owner}: param_groups[{index}] of the state_dict has an argument of another kind: {error}"
        ) from None
    return new


def _state(optimizer: LowBitOptimizer, place: _Place, saved: Mapping[str, Any]) -> StateDict:
    """The state of a parameter, from a saved one of any of the known formats."""
    subject, specs = place.subject, optimizer.states(place.group)
    bits = named_bits(saved)
    found = read(subject, to_memory(subject, saved), specs)
    if not found:
        return {}  # torch.optim.SGD before its first step with momentum
    further = optimizer.further_states(place.p) if place.p.numel() else {}
    for name in (*(spec.name for spec in specs), *optimizer.counters, *further):
        if found.get(name) is None:
            raise ValueError(
                f"{subject} is of another rule: {name!r} is missing among {', '.join(sorted(map(str, saved)))}; "
                "load it into an optimizer of the class that saved it"
            )
    if is_flattened(place.p):
        check.check_apart(subject, {spec.name: found[spec.name] for spec in specs})
    result: StateDict = {name: check.counter(subject, name, found.pop(name)) for name in optimizer.counters}
    for spec in specs:
        values, absmax = found.pop(spec.name), found.pop(f"{spec.name}{ABSMAX}", None)
        named = place._replace(subject=f"{subject}.{spec.name}")
        store(result, spec.name, _adopt(named, spec, values, absmax, bits.get(spec.name)))
    found.pop("step", None)
    for name, shape in further.items():
        floats = check.check_floats(f"{subject}.{name}", found.pop(name), place.p, shape, signed=False)
        result[name] = floats.to(place.p.device, torch.float32, copy=True)
    if "compensation" in found:
        lost = found.pop("compensation")
        lost = check.check_floats(f"{subject}.compensation", lost, place.p, place.p.shape, signed=True)
        result["compensation"] = lost.to(place.p.device, copy=True)
    if found:
        raise ValueError(
            f"{subject} is of another rule: this one has no {min(found, key=str)!r}; "
            "load it into an optimizer of the class that saved it"
        )
    return result


def _adopt(place: _Place, spec: State, saved: Any, absmax: Any, named: int | None) -> tuple[Tensor, Tensor | None]:
    """One saved state as the group stores it; ValueError if it does not fit or would lose precision unasked."""
    subject, p, group, requantize = place
    wanted = layout_for(p, group)
    values, absmax, code = _parts(subject, p, saved, absmax)
    try:
        found = stored_layout(p, values, absmax)
    except ValueError as error:
        raise ValueError(
            f"{subject} is {error}: it does not fit a parameter {list(p.shape)}; load the states of this model"
        ) from None
    if named is not None and named != found.bits:
        raise ValueError(
            f"{subject} is named as codes of {named} bits, but its size is that of {found.bits} bits for a parameter "
            f"{list(p.shape)}; the file is damaged, or of another model"
        )
    other_code = code is not None and not torch.equal(code.cpu().float(), state_table(spec.signed, found.bits))
    same = equivalent(found, wanted) and not other_code
    if not same and not requantize:
        raise ValueError(
            f"{subject} is stored as {_words(found, other_code)}, this optimizer stores {_words(wanted, False)}; "
            "pass requantize=True to convert it"
        )
    if absmax is None:
        check.check_values(subject, values, signed=spec.signed)
        if same and not is_sharded(p):
            return _float_copy(p, values), None
        return encode(p, as_floats(p, values, None, spec.signed, found), spec.signed, wanted)
    if same and _same_strides(p, values, found):
        return _codes_copy(p, values, absmax, found)
    if code is None:
        floats = as_floats(p, values, absmax, spec.signed, found)
    else:
        floats = decode(p, values, absmax, code.float(), found)
        check.check_values(f"{subject}, decoded,", floats, signed=spec.signed)
    return encode(p, floats, spec.signed, wanted)


def _parts(subject: str, p: Tensor, saved: Any, absmax: Any) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Values or codes, absmax and a code table of its own of a saved state, checked, on the parameter's device."""
    code = None
    if isinstance(saved, Coded):
        saved, absmax, code = saved
        check.check_table(subject, code)
    values = check.check_tensor(subject, saved, p).to(p.device)
    if absmax is None:
        return values, None, code
    return values, check.check_absmax(f"{subject}{ABSMAX}", absmax, p).to(p.device), code


def _float_copy(p: Tensor, values: Tensor) -> Tensor:
    return torch.empty_like(p, dtype=torch.float32, memory_format=torch.preserve_format).copy_(values)


def _codes_copy(p: Tensor, codes: Tensor, absmax: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Copies in the shapes that `allocate` gives them; a DTensor already has its shape, or is none of a state."""
    if is_sharded(p):
        return codes.clone(), absmax.clone()
    if layout.bits == 4:
        codes = codes.reshape(layout.rows, -1).clone(memory_format=torch.contiguous_format)
        return codes, absmax.flatten().clone()
    return codes.clone(), absmax.flatten().clone()


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
