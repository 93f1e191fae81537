# SPDX-License-Identifier: Apache-2.0
"""State_dicts of this package as torch.optim reads them: every state decoded to float32 under torch's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, State, Storage
from bittern.optim._layout import Layout, stored_layout, wrap
from bittern.optim._names import ABSMAX, Saved, is_flattened, named_storages, to_memory, to_saved, without_guard
from bittern.optim._options import OURS
from bittern.optim._state import Stored, floats_of, with_ratios

STATES = {state.name: state for spec in SPECS.values() for state in spec.states}
"""By name; what they rely on differs from rule to rule only where one has no square."""


def to_torch(state_dict: Mapping[str, Any], params: Iterable[Tensor] | None = None) -> dict[str, Any]:
    """A state_dict of `bittern.optim` with float32 states under torch's names, for `torch.optim` to go on from.

    params: the optimizer's parameters in its order, or its parameter groups; needed for states of 4 bits, whose codes
    have no shape. Keys may be numbers or, from `torch.distributed.checkpoint`, names. Decoded values are those that
    this package's next step would start from, and copies; `load_state_dict(..., requantize=True)` is the way back.
    Rules that torch.optim lacks come out by the names of their states. Errors: ValueError for 4-bit states without
    `params`, for another number of parameters, for states that fit no parameter, and for Adafactor's momentum,
    which torch.optim.Adafactor does not have.
    """
    groups = [_torch_group(group) for group in without_guard(state_dict["param_groups"])]
    numbers = [number for group in groups for number in group["params"]]
    shapes: dict[Any, Tensor] = {}
    if params is not None:
        given = _parameters(params)
        if len(given) != len(numbers):
            raise ValueError(
                f"to_torch: params must be the {len(numbers)} parameters of the state_dict; got {len(given)}; "
                "pass those of the optimizer that was saved"
            )
        shapes = dict(zip(numbers, given, strict=True))
    state: dict[Any, Any] = {}
    for number, saved in state_dict["state"].items():
        subject = f"to_torch: state {number}"
        if ("row_var" in saved or "variance" in saved) and "exp_avg" in to_memory(subject, saved):
            raise ValueError(f"{subject} has Adafactor's momentum, which torch.optim lacks; remove it, or stay here")
        floats = _decoded(subject, saved, shapes.get(number))
        floats.pop("compensation", None)
        state[number] = {name: x.clone() if isinstance(x, Tensor) else x for name, x in floats.items()}
    return {**state_dict, "state": state, "param_groups": groups}


def _parameters(params: Iterable[Any]) -> list[Tensor]:
    given = list(params)
    if given and isinstance(given[0], Mapping):
        return [p for group in given for p in group["params"]]
    return given


def _torch_group(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key not in OURS}


def saved_state(subject: str, state: Mapping[str, Any], p: Tensor) -> Saved:
    """The state of `p` by a state_dict's names, or decoded where FSDP1 holds `p`: it knows no scales of blocks."""
    return _decoded(subject, state, p) if is_flattened(p) else to_saved(state, p.shape)


def _decoded(subject: str, saved: Mapping[str, Any], p: Tensor | None) -> Saved:
    state = to_memory(subject, saved)
    result = {name: value for name, value in state.items() if not name.endswith(ABSMAX)}
    coded, storages = [name for name in state if f"{name}{ABSMAX}" in state], named_storages(saved)
    parts: dict[str, Stored] = {}
    for name in coded:
        where = f"{subject}.{name}"
        if name not in STATES:
            raise ValueError(
                f"{where} must be one of {', '.join(STATES)}; got codes of another name; "
                "pass a state_dict of bittern.optim"
            )
        storage = storages.get(name)
        if p is None and storage is not Storage.BYTES:
            raise ValueError(f"{where} holds codes that have no shape; pass the optimizer's parameters as params")
        codes, absmax = state[name], state[f"{name}{ABSMAX}"]
        parts[name] = Stored(codes, absmax, _layout(where, codes if p is None else p, codes, absmax, storage))
    specs = _specs(coded)
    layouts = with_ratios({name: part.layout for name, part in parts.items()}, specs)
    parts = {name: part._replace(layout=layouts[name]) for name, part in parts.items()}
    if coded:
        like = state[coded[0]] if p is None else p
        for name, floats in floats_of(like, parts, specs).items():
            result[name] = wrap(like, Storage.FLOATS, parts[name].layout, floats, None)[0]
    squares = [result[name] for name in coded if not STATES[name].signed]
    for name in coded:
        if squares and STATES[name].signed:  # as a step decodes them
            result[name] = torch.where(squares[0] == 0, 0.0, result[name])
    return result


def _specs(names: list[str]) -> tuple[State, ...]:
    """The states of these names, in the order of a rule that has them all."""
    for spec in SPECS.values():
        if {state.name for state in spec.states} == set(names):
            return spec.states
    return tuple(STATES[name] for name in names)


def _layout(subject: str, like: Tensor, codes: Tensor, absmax: Tensor, storage: Storage | None) -> Layout:
    """Of one quantized state of a parameter like `like`."""
    try:
        return stored_layout(like, codes, absmax, storage)
    except ValueError as error:
        raise ValueError(
            f"{subject} is {error}: it does not fit a parameter {list(like.shape)}; "
            "pass the parameters of this state_dict"
        ) from None
