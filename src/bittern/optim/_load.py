# SPDX-License-Identifier: Apache-2.0
"""Reads state_dicts: this package's, torch.optim's, and through `_foreign` those of bitsandbytes and torchao."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from bittern.ops.optimizer_step import State, Storage, state_table
from bittern.optim import _loaded as check
from bittern.optim._foreign import Coded, foreign_group, read
from bittern.optim._layout import Layout, equivalent, is_sharded, layout_for, means_like, own_layout, stored_layout
from bittern.optim._names import ABSMAX, is_flattened, named_storages, to_memory
from bittern.optim._options import STORAGE, Group, check_options
from bittern.optim._state import StateDict, Stored, first_square, floats_of, store, stored_as, with_ratios

if TYPE_CHECKING:
    from bittern.optim._optimizer import LowBitOptimizer


class _Place(NamedTuple):
    """Where a state goes: words for errors, its parameter (or what is stored like it), group, and whether it may be
    converted."""

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
            like = optimizer.stored_like(p, group)
            place = _Place(f"{owner}: state {number}", like, group, requantize or is_flattened(p))
            states[p] = _state(optimizer, place, p, saved)
        else:
            states[number] = deepcopy(saved)
    for group in new_groups:
        for name in optimizer.foreign_options:
            group.pop(name, None)
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
    flags = (name for name, own in group.items() if isinstance(own, bool) and isinstance(new[name], int))
    new |= {name: bool(new[name]) for name in flags}
    optimizer.adjust_loaded(new)
    try:
        check_options(owner, {**new, "foreach": None, "fused": None})  # how torch.optim ran is nothing to refuse
        optimizer.check_group(new)
    except TypeError as error:
        raise ValueError(
            f"{owner}: param_groups[{index}] of the state_dict has an argument of another kind: {error}"
        ) from None
    return new


def _state(optimizer: LowBitOptimizer, place: _Place, p: Tensor, saved: Mapping[str, Any]) -> StateDict:
    """The state of a parameter, from a saved one of any of the known formats."""
    subject, specs = place.subject, optimizer.states(place.group)
    found = read(subject, to_memory(subject, saved), specs)
    if not found:
        return {}  # torch.optim.SGD before its first step with momentum
    optimizer.adjust_loaded_state(place.group, found)
    if "step" not in optimizer.counters:  # torch's and older files do not count, but what is in them has made a step
        found.setdefault("step", 1.0)
    counters = optimizer.counters_of(p, place.group)
    further = optimizer.further_states(place.p) if place.p.numel() else {}
    for name in (*(spec.name for spec in specs), *counters, *further):
        if found.get(name) is None:
            raise ValueError(
                f"{subject} is of another rule: {name!r} is missing among {', '.join(sorted(map(str, saved)))}; "
                "load it into an optimizer of the class that saved it"
            )
    if is_flattened(place.p):
        check.check_apart(subject, {spec.name: found[spec.name] for spec in specs})
    result: StateDict = {
        name: check.counter(subject, name, found.pop(name), optimizer.most_count(name)) for name in counters
    }
    parts = {spec.name: (found.pop(spec.name), found.pop(f"{spec.name}{ABSMAX}", None)) for spec in specs}
    for name, stored in _adopt(place, specs, parts, named_storages(saved)).items():
        store(result, name, stored)
    found.pop("step", None)
    for name, dim in further.items():
        like = means_like(place.p, dim)
        floats = check.check_floats(f"{subject}.{name}", found.pop(name), like, like.shape, signed=False)
        result[name] = floats.to(like.device, torch.float32, copy=True)
    result |= optimizer.take_others(subject, p, place.group, found)
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


def _adopt(
    place: _Place, specs: Sequence[State], parts: Mapping[str, tuple[Any, Any]], named: Mapping[str, Storage]
) -> dict[str, tuple[Tensor, Tensor | None]]:
    """The saved states as the group stores them; ValueError if one does not fit or would lose precision unasked."""
    subject, p, group, _ = place
    found = {
        spec.name: _recognised(f"{subject}.{spec.name}", p, spec, *parts[spec.name], named.get(spec.name))
        for spec in specs
    }
    layouts = with_ratios({name: part.layout for name, part in found.items()}, specs)
    for name, layout in layouts.items():
        if layout != found[name].layout and name in named:
            raise ValueError(
                f"{subject}.{name} is named as codes {named[name].name.lower()}, which do not go with the codes of "
                f"{first_square(specs)}; the file is damaged"
            )
    found = {name: part._replace(layout=layouts[name]) for name, part in found.items()}
    wanted = layout_for(p, group)
    same = {spec.name: _is_stored_so(place, spec, found[spec.name], own_layout(spec, wanted)) for spec in specs}
    if all(same[name] and _same_strides(p, part.values, part.layout) for name, part in found.items()):
        return {name: _copy(p, part) for name, part in found.items()}
    floats = floats_of(p, found, specs)
    for spec in specs:
        if found[spec.name].table is not None:
            check.check_values(f"{subject}.{spec.name}, decoded,", floats[spec.name], signed=spec.signed)
    return stored_as(p, floats, specs, wanted) | {
        name: _copy(p, part)
        for name, part in found.items()
        if same[name] and _same_strides(p, part.values, part.layout)
    }


def _recognised(subject: str, p: Tensor, spec: State, saved: Any, absmax: Any, named: Storage | None) -> Stored:
    """One saved state and its layout, checked by itself."""
    values, absmax, code = _parts(subject, p, saved, absmax)
    try:
        found = stored_layout(p, values, absmax, named)
    except ValueError as error:
        raise ValueError(
            f"{subject} is {error}: it does not fit a parameter {list(p.shape)}; load the states of this model"
        ) from None
    if named is not None and named.bits != found.bits:
        raise ValueError(
            f"{subject} is named as codes of {named.bits} bits, but its size is that of {found.bits} bits for a "
            f"parameter {list(p.shape)}; the file is damaged, or of another model"
        )
    if named in (Storage.LOGARITHMS, Storage.RATIOS) and (named is Storage.LOGARITHMS) == spec.signed:
        raise ValueError(f"{subject} is named as codes of another kind of state; the file is damaged")
    if absmax is None:
        check.check_values(subject, values, signed=spec.signed)
    elif found.logarithmic and not spec.signed:
        check.check_levels(f"{subject}{ABSMAX}", absmax)
    other = code is not None and not torch.equal(code.cpu().float(), state_table(spec.signed, found.bits))
    return Stored(values, absmax, found, code.float() if other and code is not None else None)


def _is_stored_so(place: _Place, spec: State, part: Stored, wanted: Layout) -> bool:
    same = equivalent(part.layout, wanted) and part.table is None
    if not same and not place.requantize:
        raise ValueError(
            f"{place.subject}.{spec.name} is stored as {_words(part.layout, part.table is not None)}, this optimizer "
            f"stores {_words(wanted, False)}; pass requantize=True to convert it{_or_go_on(part.layout, wanted)}"
        )
    return same


def _or_go_on(found: Layout, wanted: Layout) -> str:
    to_nearest = found.bits == wanted.bits == 4 and wanted.logarithmic and not found.logarithmic
    return ', or build the optimizer with state_rounding="nearest" to go on with it' if to_nearest else ""


def _copy(p: Tensor, part: Stored) -> tuple[Tensor, Tensor | None]:
    if part.absmax is not None:
        return _codes_copy(p, part.values, part.absmax, part.layout)
    if is_sharded(p):
        return part.values.float().clone(), None
    return _float_copy(p, part.values), None


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
    else:
        codes = codes.clone()
    return codes, absmax.reshape(*([-1, 2] if absmax.numel() > layout.blocks else [-1])).clone()


def _same_strides(p: Tensor, values: Tensor, layout: Layout) -> bool:
    if layout.bits != 8:
        return True  # floats are copied by index; 4-bit codes have no strides
    dense = torch.empty_like(p, device="meta", memory_format=torch.preserve_format).stride()
    return all(a == b for a, b, size in zip(values.stride(), dense, p.shape, strict=True) if size > 1)


def _words(layout: Layout, other_code: bool) -> str:
    if layout.bits == 32:
        return "32-bit floats"
    table_words = " with another code table" if other_code else ""
    kind = " by logarithms" if layout.logarithmic else ""
    return f"{layout.bits} bits{kind} in blocks of {layout.block_size}{table_words}"
