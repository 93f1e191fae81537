# SPDX-License-Identifier: Apache-2.0
"""bitsandbytes' state_dict of an optimizer, from and to the names of `bittern.optim`.

`state[i] = {"step": int, "__bnb_optimizer_quant_state__": {"state1", "qmap1", "absmax1", "state2", ...}}`; a state in
32 bits has no qmap and absmax. AdEMAMix stacks its two means in state1 [2, *shape] and absmax1 [2, blocks]. A rule with
more states than that (AMSGrad, centered RMSprop) and LARS, whose momentum sums steps here and gradients there, have no
such format and keep the names of `bittern.optim`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.ops.optimizer_step import SPECS, State, state_table
from bittern.optim import LAMB, LARS, SGD, Adagrad, LowBitOptimizer, RMSprop
from bittern.optim._names import without_guard
from bittern.optim._options import OURS

WRAPPED = "__bnb_optimizer_quant_state__"
_ADEMAMIX = ("exp_avg", "exp_avg_slow", "exp_avg_sq")
_TWO_STATES = ("exp_avg", "exp_avg_sq")


class States(dict[str, Any]):
    """The state of one parameter, which also answers to bitsandbytes' names: state1, qmap1, absmax1, state2, ...

    Tensors are the state's own, but AdEMAMix's stacked state1 and absmax1 and the tables are copies.
    """

    def __missing__(self, key: str) -> Any:
        every = {state.name: state for spec in SPECS.values() for state in spec.states}
        specs = [state for name, state in every.items() if name in self]
        specs.sort(key=lambda state: list(self).index(state.name))
        return _state_out(self, specs).get(WRAPPED, {})[key]


def to_bitsandbytes(optimizer: LowBitOptimizer) -> dict[str, Any]:
    """The state_dict in bitsandbytes' format; what has none comes by the names of `bittern.optim`."""
    saved = optimizer.memory_state_dict()
    own = optimizer.by_saved_names(dict(saved))
    if isinstance(optimizer, LARS):
        return own
    groups = [_group_out(optimizer, group) for group in saved["param_groups"]]
    specs = {
        number: optimizer.states(group)
        for group, kept in zip(optimizer.param_groups, saved["param_groups"], strict=True)
        for number in kept["params"]
    }
    state = {number: _state_out(found, specs[number]) for number, found in saved["state"].items()}
    state = {number: found if WRAPPED in found else own["state"][number] for number, found in state.items()}
    if isinstance(optimizer, LAMB):
        for found in state.values():
            found[WRAPPED]["unorm_vec"] = torch.zeros(1)  # bitsandbytes' scratch for the norm of an update
    return {**saved, "state": state, "param_groups": groups}


def _state_out(found: Mapping[str, Any], specs: Sequence[State]) -> dict[str, Any]:
    names = tuple(spec.name for spec in specs)
    if not (len(names) == 1 or names in (_TWO_STATES, _ADEMAMIX)) or any(name not in found for name in names):
        return dict(found)
    inner: dict[str, Any] = {}
    if names == _ADEMAMIX:
        inner |= _numbered(1, _stacked(found, ""), _stacked(found, "_absmax"), signed=True)
        inner |= _numbered(2, found["exp_avg_sq"], found.get("exp_avg_sq_absmax"), signed=False)
    else:
        for number, spec in enumerate(specs, 1):
            inner |= _numbered(number, found[spec.name], found.get(f"{spec.name}_absmax"), spec.signed)
    step = found.get("step")
    return {"step": 1 if step is None else int(step), WRAPPED: inner}


def _stacked(found: Mapping[str, Any], suffix: str) -> Tensor | None:
    parts = [found.get(name + suffix) for name in _ADEMAMIX[:2]]
    return torch.stack([part for part in parts if part is not None]) if parts[0] is not None else None


def _numbered(number: int, values: Tensor | None, absmax: Tensor | None, signed: bool) -> dict[str, Any]:
    if absmax is None:
        return {f"state{number}": values}
    qmap = state_table(signed, 8).to(absmax.device, copy=True)
    return {f"state{number}": values, f"qmap{number}": qmap, f"absmax{number}": absmax}


def _group_out(optimizer: LowBitOptimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """The hyper-parameters plus those that bitsandbytes reads under names of its own."""
    result = {key: value for key, value in group.items() if key not in OURS}
    if isinstance(optimizer, SGD):
        result["betas"] = (group["momentum"], group["dampening"])
    elif isinstance(optimizer, RMSprop):
        result["betas"] = (group["alpha"], group["momentum"])
    elif isinstance(optimizer, Adagrad):
        result["betas"] = (0.0, 0.0)
    return {"eps": 0.0, "alpha": 0.0, "t_alpha": None, "t_beta3": None, **result}


def from_bitsandbytes(optimizer: LowBitOptimizer, saved: Mapping[str, Any]) -> dict[str, Any]:
    """A state_dict of bitsandbytes with hyper-parameters under the names of `bittern.optim`; others unchanged.

    Errors: ValueError for one of bitsandbytes' LARS, whose momentum has other units.
    """
    foreign = any("state1" in found.get(WRAPPED, found) for found in saved["state"].values())
    if isinstance(optimizer, LARS) and foreign:
        raise ValueError(
            f"{type(optimizer).__name__}: bitsandbytes sums gradients in state1, the rule here steps, learning "
            "rate and trust ratio included; such a file cannot be converted: start with a new optimizer"
        )
    return {**saved, "param_groups": [_group_in(optimizer, group) for group in without_guard(saved["param_groups"])]}


def _group_in(optimizer: LowBitOptimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    here = optimizer.param_groups[0]
    result = {key: value for key, value in group.items() if key == "params" or key in here}
    if "betas" in group and "betas" not in here:
        first = group["betas"][0]
        name = "alpha" if isinstance(optimizer, RMSprop) else "momentum"
        if name in here and (name not in group or name == "alpha"):
            result[name] = first
    return result
