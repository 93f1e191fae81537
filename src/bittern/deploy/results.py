# SPDX-License-Identifier: Apache-2.0
"""What networks answer: one tensor, a tuple or list of tensors, or tensors by name.

Tensors by name are a dict, a named tuple or a ModelOutput of transformers; a packed model then returns a dict, and for
a tuple or list a tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor


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
