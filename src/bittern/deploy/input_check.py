# SPDX-License-Identifier: Apache-2.0
"""Whether what a call gives is an input of the program, and what to say where it is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.program import OPEN, VALUE_TYPES, Input
from bittern.deploy.size_expression import BATCH

ADVICE = {"float32": ".float()", "int64": ".long()", "int32": ".int()", "bool": ".bool()"}
"""How to make a tensor of a type; of any other `.to`."""


def check_input(what: str, given: Input, x: Any, device: torch.device) -> None:
    """Raises: TypeError, ValueError for what is not this input. what: how a message calls it."""
    if not isinstance(x, Tensor):
        raise TypeError(f"packed model: {what} must be a torch.Tensor; got {type_and_advice(x)}")
    if x.layout != torch.strided:
        raise TypeError(f"packed model: {what} must be dense; got {x.layout}; call .to_dense() first")
    if x.dtype != VALUE_TYPES[given.type]:
        advice = ADVICE.get(given.type, f".to({VALUE_TYPES[given.type]})")
        raise TypeError(f"packed model: {what} must be {given.type}; got {x.dtype}; call {advice} first")
    place = given.batch
    shape = x.shape if place is None or x.ndim <= place else (*x.shape[:place], *x.shape[place + 1 :])
    fits = all(size in (own, OPEN) for size, own in zip(given.shape, shape, strict=False))
    if not fits or len(shape) != len(given.shape) or x.ndim != len(given.shape) + (place is not None):
        sizes = list(given.sizes)
        if place is not None:
            sizes.insert(place, BATCH)
        expected = f"an input {in_words(sizes)}" if what == "the input" else f"{what} {in_words(sizes)}"
        raise ValueError(f"packed model: expected {expected}; got {list(x.shape)}")
    if x.device.type != device.type:
        raise ValueError(f"packed model: is on {device}, {what} on {x.device}; move one with .to()")


def in_words(sizes: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, sizes))}]"


def type_and_advice(value: object) -> str:
    """The type of what should be a tensor, and how to make one of it."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{name}; use torch.from_numpy(x)" if name == "numpy.ndarray" else f"{name}; use torch.as_tensor(x)"
