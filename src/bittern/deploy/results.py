# SPDX-License-Identifier: Apache-2.0
"""Networks with several answers: the node kind `results`, which ends their program, and what such answers are.

A model may return one tensor, a tuple or list of tensors, or tensors by name (a dict, a named tuple, a ModelOutput of
transformers); a packed model then returns a tensor, a tuple, or a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.kinds.kind import AttrRule, Kind, Step
from bittern.deploy.program import Node

MOST_RESULTS = 64


def _check(node: Node, tensors: Mapping[str, Tensor]) -> None:
    names = node.attrs["names"]
    assert isinstance(names, list)
    texts = all(isinstance(name, str) for name in names) and len(set(map(str, names))) == len(names)
    if len(node.inputs) > MOST_RESULTS or not texts or len(names) not in (0, len(node.inputs)):
        raise FormatError(
            f"node {node.name!r} (results): needs a different name for each of its {len(node.inputs)} results, at most "
            f"{MOST_RESULTS}, or none at all"
        )


def _build(node: Node, tensors: Mapping[str, Tensor], device: torch.device) -> Step:
    names = node.attrs["names"]
    assert isinstance(names, list)
    if names:
        return lambda *values: dict(zip(names, values, strict=True))
    return lambda *values: values


RESULTS = Kind("results", (-1,), {"names": AttrRule(list, tree=True)}, {}, {}, _check, _build)


def mapped(result: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A result with a function applied to each of its tensors."""
    if isinstance(result, Tensor):
        return function(result)
    if isinstance(result, dict):
        return {name: function(value) for name, value in result.items()}
    return tuple(map(function, result))


def named(answer: Any) -> dict[str, Tensor] | None:
    """The tensors of what a model or a packed model returns, by name or place; None where it is nothing of the kind."""
    if isinstance(answer, Tensor):
        return {"": answer}
    if isinstance(answer, Mapping):
        found = {str(name): value for name, value in answer.items() if value is not None}
    elif isinstance(answer, tuple) and hasattr(answer, "_fields"):
        found = dict(zip(answer._fields, answer, strict=True))
    elif isinstance(answer, (tuple, list)):
        found = {str(place): value for place, value in enumerate(answer)}
    else:
        return None
    return found if found and all(isinstance(value, Tensor) for value in found.values()) else None
