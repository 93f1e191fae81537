# SPDX-License-Identifier: Apache-2.0
"""Outputs of named modules during a forward pass."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def watched(model: nn.Module, names: Iterable[str], owner: str) -> Iterator[dict[str, Tensor]]:
    """name -> output of each of these modules, filled while the model runs, once, inside; float32 where autocast
    narrowed it.

    owner: what messages call the model. Raises: ValueError for a module that is not there, does not run exactly once,
    or returns anything but a tensor.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    seen: dict[str, list[Any]] = {name: [] for name in names}
    check_names(seen, modules, owner)
    handles = [
        modules[name].register_forward_hook(lambda module, inputs, output, name=name: seen[name].append(output))
        for name in seen
    ]
    found: dict[str, Tensor] = {}
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
    for name, outputs in seen.items():
        if len(outputs) != 1:
            raise ValueError(
                f"train: module {name!r} of the {owner} ran {len(outputs)} times in a step; an added loss looks at one "
                "that runs once, and is not compiled away"
            )
        if not isinstance(outputs[0], Tensor):
            raise ValueError(
                f"train: module {name!r} of the {owner} returns {type(outputs[0]).__name__}; an added loss looks "
                "at one that returns a tensor"
            )
        y = outputs[0]
        found[name] = y.float() if y.dtype in (torch.bfloat16, torch.float16) else y


def check_names(names: Iterable[str], modules: dict[str, nn.Module], owner: str) -> None:
    """Raises: ValueError for a name that no module has."""
    for name in names:
        if name not in modules:
            near = ", ".join(map(repr, difflib.get_close_matches(name, modules)))
            raise ValueError(
                f"train: an added loss looks at module {name!r}, and the {owner} has none of that name"
                f"{f'; near it are {near}' if near else ''}; names are those of named_modules()"
            )
