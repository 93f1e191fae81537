# SPDX-License-Identifier: Apache-2.0
"""The numbers of a file into a copy of a model, some layers of which become frozen ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bittern.nn._copy import copied
from bittern.nn._frozen import FrozenLinear
from bittern.nn.substitutes import put_in_place


def device_of(model: nn.Module) -> torch.device:
    """Where numbers go: to the model's first parameter or buffer, from the meta device to the CPU."""
    first = next(iter([*model.parameters(), *model.buffers()]), None)
    return torch.device("cpu") if first is None or first.is_meta else first.device


def fill(model: nn.Module, layers: Mapping[str, FrozenLinear], state: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `model` with `layers` in place of those of these names, and the numbers of `state`, in its types.

    Parameters that are one in the model are one again.
    Raises: ValueError where names, sizes or types differ, ties have different numbers, codes are none that their layer
    has, or something stays on the meta device.
    """
    new = copied(model, model.parameters())  # parameters are replaced below, not changed
    ties = ties_of(new)
    new = put_in_place(new, {id(new.get_submodule(name)): layer for name, layer in layers.items()})
    frozen = {name for name, m in new.named_modules() if isinstance(m, FrozenLinear)}
    codes = {name for name, _ in new.named_buffers() if name.rpartition(".")[0] in frozen}
    check_fits(new.state_dict(), state, codes)
    new.load_state_dict(state, assign=True)
    _tie(new, ties)
    for name, value in [*new.named_parameters(), *new.named_buffers()]:
        if value.is_meta:
            raise ValueError(f"{name!r} is on the meta device and no part of a state_dict; build the model on the CPU")
    for name in layers:
        layer = new.get_submodule(name)
        assert isinstance(layer, FrozenLinear)
        layer.check_codes()
    return new


def ties_of(model: nn.Module) -> list[list[str]]:
    """Names that hold one parameter."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _tie(model: nn.Module, ties: list[list[str]]) -> None:
    """Make one parameter again of those that were one. Raises: ValueError where the file has different numbers."""
    for group in ties:
        present = [name for name in group if _has_parameter(model, name)]  # a frozen layer has no weight any more
        for first, name in zip(present[:1] * len(present), present, strict=True):
            owner, _, attribute = name.rpartition(".")
            if not torch.equal(model.get_parameter(name), model.get_parameter(first)):
                raise ValueError(
                    f"{name!r} and {first!r} are one parameter of the model, and the file has different numbers for "
                    "them; build the saved model"
                )
            setattr(model.get_submodule(owner), attribute, model.get_parameter(first))


def _has_parameter(model: nn.Module, name: str) -> bool:
    owner, _, attribute = name.rpartition(".")
    return attribute in model.get_submodule(owner)._parameters


def check_fits(expected: Mapping[str, Any], state: Mapping[str, Tensor], codes: Collection[str] = ()) -> None:
    """Names and sizes of `state` are those expected; types too, but that numbers may be of any type of floats.

    codes: names whose type must be the one expected. Raises: ValueError with what differs.
    """
    problems = [f"{name!r} is missing" for name in expected if name not in state]
    problems += [f"{name!r} is unexpected" for name in state if name not in expected]
    for name, value in state.items():
        wanted = expected.get(name)
        if wanted is None or not isinstance(wanted, Tensor):
            continue
        if value.shape != wanted.shape:
            problems.append(f"{name!r} must be {list(wanted.shape)}; got {list(value.shape)}")
        elif value.dtype != wanted.dtype and (name in codes or not _both_float(value, wanted)):
            problems.append(f"{name!r} must be {wanted.dtype}; got {value.dtype}")
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(f"the file does not fit the model: {'; '.join(problems[:8])}{more}")


def _both_float(a: Tensor, b: Tensor) -> bool:
    return a.is_floating_point() and b.is_floating_point()
