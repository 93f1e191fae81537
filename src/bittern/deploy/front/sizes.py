# SPDX-License-Identifier: Apache-2.0
"""Sizes of tensors while the batch is unknown: numbers, or a multiple of the batch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

PROBES = (2, 3, 5, 64, 1009)
"""Batches at which a size is looked at."""


class Size(NamedTuple):
    """times * batch + plus."""

    times: int
    plus: int = 0


class NoSize(ValueError):
    """What the graph computes from sizes and is no number, and no multiple of the batch."""


def size_of(value: Any) -> Any:
    """A number of the graph as an int, float, bool, or `Size`. Raises: NoSize."""
    if not isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return value
    expression = value.node.expr
    symbols = expression.free_symbols
    if not symbols:
        return _plain(expression)
    if len(symbols) > 1:
        raise NoSize(f"{expression} depends on several sizes")
    found: list[Any] = [_plain(expression.subs(next(iter(symbols)), probe)) for probe in PROBES]
    times = found[1] - found[0]
    plus = found[0] - PROBES[0] * times
    if not all(type(f) is int and f == times * probe + plus for probe, f in zip(PROBES, found, strict=True)):
        raise NoSize(f"{expression} is no multiple of the batch, and a program knows no other sizes that change")
    return Size(times, plus) if times else plus


def _plain(expression: Any) -> int | float | bool:
    """A number of sympy as Python's."""
    if getattr(expression, "is_Boolean", False):
        return bool(expression)
    return int(expression) if expression.is_integer else float(expression)


def shape_of(x: Tensor) -> tuple[Any, ...]:
    """Sizes as ints or `Size`. Raises: NoSize."""
    return tuple(size_of(n) for n in x.shape)


def samples_first(x: Tensor) -> bool:
    """Whether x is float32 [batch, *sizes that are numbers], as the native kinds take and give."""
    if x.dtype != torch.float32 or x.layout != torch.strided or x.ndim < 2:
        return False
    try:
        batch, *rest = shape_of(x)
    except NoSize:
        return False
    return batch == Size(1) and all(isinstance(n, int) and n > 0 for n in rest)


def order_of(x: Tensor) -> list[int]:
    """Dimensions of x by their place in memory, the outermost first."""
    steps = [_at(2, n) for n in x.stride()]
    sizes = [_at(2, n) for n in x.shape]
    moving = sorted((d for d in range(x.ndim) if sizes[d] != 1), key=lambda d: -steps[d])
    order = iter(moving)
    return [d if sizes[d] == 1 else next(order) for d in range(x.ndim)]


def in_order(x: Tensor) -> bool:
    """Whether the dimensions lie in memory in their own order."""
    return order_of(x) == list(range(x.ndim))


def _at(batch: int, value: Any) -> int:
    size = size_of(value)
    return size.times * batch + size.plus if isinstance(size, Size) else int(size)
