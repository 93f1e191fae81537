# SPDX-License-Identifier: Apache-2.0
"""An optimizer's state as named tensors and JSON, and back. Parameters are named, not numbered."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from bittern.optim._options import ADDED

Json = dict[str, Any]


def pack_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module) -> tuple[dict[str, Tensor], Json]:
    """Tensors under "<key>/<parameter name>", and {"scalars": {parameter: {key: value}}, "groups": [...]}.

    Raises: TypeError for a value that is neither a tensor nor JSON.
    """
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Json] = {}
    names = _names(optimizer, model)
    for parameter, entries in optimizer.state.items():
        name = names[id(parameter)]
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{key}/{name}"] = value
            else:
                scalars.setdefault(name, {})[key] = _plain(f"state {key!r} of {name}", value)
    groups = []
    for group in optimizer.param_groups:
        options = {key: _plain(f"option {key!r}", value) for key, value in group.items() if key != "params"}
        groups.append({"names": [names[id(p)] for p in group["params"]], "options": options})
    return tensors, {"scalars": scalars, "groups": groups}


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor], packed: Json
) -> Json:
    """A state for `optimizer.load_state_dict`. Changes nothing.

    Raises: ValueError, KeyError, TypeError when it is not of this optimizer and model.
    """
    names = _names(optimizer, model)
    state: dict[str, Json] = {name: dict(entries) for name, entries in packed["scalars"].items()}
    for path, value in tensors.items():
        key, _, name = path.partition("/")
        state.setdefault(name, {})[key] = value
    result = optimizer.state_dict()
    if len(packed["groups"]) != len(result["param_groups"]):
        raise ValueError(
            f"it holds {len(packed['groups'])} parameter groups, the optimizer {len(result['param_groups'])}"
        )
    numbers: dict[str, int] = {}
    for here, group, stored in zip(optimizer.param_groups, result["param_groups"], packed["groups"], strict=True):
        here_names = [names[id(p)] for p in here["params"]]
        options = {name: value for name, value in ADDED.items() if name in here} | stored["options"]
        if stored["names"] != here_names or set(options) != set(here) - {"params"}:
            raise ValueError("other parameter groups: another optimizer, or other options")
        numbers |= dict(zip(here_names, group["params"], strict=True))
        for key, value in options.items():
            group[key] = tuple(value) if isinstance(here[key], tuple) else value
    result["state"] = {numbers[name]: entries for name, entries in state.items()}
    return result


def _names(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[int, str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for p in group["params"]:
            if id(p) not in names:
                raise ValueError(
                    f"optimizer: it may hold the model's parameters only; got another one, of shape {list(p.shape)}; "
                    "make the optimizer in recipe.optimizer of the parameters that it is given"
                )
    return names


def _plain(subject: str, value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"optimizer: {subject} is {value!r}, which cannot be saved without pickle; use numbers, text or tensors"
        ) from error
    return value
