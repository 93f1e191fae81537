# SPDX-License-Identifier: Apache-2.0
"""State_dicts of this package as torch.optim reads them: every state decoded to float32 under torch's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS
from bittern.optim._layout import stored_layout, wrap
from bittern.optim._names import ABSMAX, Saved, is_flattened, named_bits, to_memory, to_saved, without_guard
from bittern.optim._options import DEFAULTS
from bittern.optim._state import as_floats

SIGNED = {state.name: state.signed for spec in SPECS.values() for state in spec.states}
"""Whether a state can be negative, by its name."""


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
    return {key: value for key, value in group.items() if key not in DEFAULTS}


def saved_state(subject: str, state: Mapping[str, Any], p: Tensor) -> Saved:
    """The state of `p` by a state_dict's names, or decoded where FSDP1 holds `p`: it knows no scales of blocks."""
    return _decoded(subject, state, p) if is_flattened(p) else to_saved(state, p.shape)


def _decoded(subject: str, saved: Mapping[str, Any], p: Tensor | None) -> Saved:
    state = to_memory(subject, saved)
    result = {name: value for name, value in state.items() if not name.endswith(ABSMAX)}
    coded, bits = [name for name in state if f"{name}{ABSMAX}" in state], named_bits(saved)
    for name in coded:
        where = f"{subject}.{name}"
        if p is None and bits.get(name) != 8:
            raise ValueError(f"{where} holds codes that have no shape; pass the optimizer's parameters as params")
        result[name] = _values(where, name, state[name], state[f"{name}{ABSMAX}"], state[name] if p is None else p)
    squares = [result[name] for name in coded if not SIGNED[name]]
    for name in coded:
        if squares and SIGNED[name]:  # as a step decodes them
            result[name] = torch.where(squares[0] == 0, 0.0, result[name])
    return result


def _values(subject: str, name: str, codes: Tensor, absmax: Tensor, like: Tensor) -> Tensor:
    """One quantized state of a parameter like `like` as float32, a DTensor where the codes are one."""
    if name not in SIGNED:
        raise ValueError(
            f"{subject} must be one of {', '.join(SIGNED)}; got codes of another name; "
            "pass a state_dict of bittern.optim"
        )
    try:
        layout = stored_layout(like, codes, absmax)
    except ValueError as error:
        raise ValueError(
            f"{subject} is {error}: it does not fit a parameter {list(like.shape)}; "
            "pass the parameters of this state_dict"
        ) from None
    return wrap(like, layout._replace(bits=32), as_floats(like, codes, absmax, SIGNED[name], layout), None)[0]
