# SPDX-License-Identifier: Apache-2.0
"""Sizes of tensors while the batch, and the sizes that the caller has named, are unknown: numbers or expressions.

torch.export writes them as expressions of sympy over symbols of its own. `Symbols` says which of its symbols is which
size, and turns them into the data of a program (`size_expression`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.size_expression import (
    BATCH,
    OR,
    Condition,
    Expression,
    SizeError,
    along_batch,
    check_expression,
    in_words,
    names_in,
)

FAR = 5040
"""Every unknown size while the order of dimensions is looked at: far from 1, and whole in whatever it is divided by."""

MOST_POWER = 8

OPERATIONS = {
    "Add": "+",
    "Mul": "*",
    "Max": "max",
    "Min": "min",
    "FloorDiv": "//",
    "CleanDiv": "//",
    "Mod": "%",
    "PythonMod": "%",
}
"""Operations of sympy and torch, by the name of their class."""
POWERS = ("Pow", "PowByNatural")

COMPARISONS: Mapping[str, Callable[[Expression, Expression], Condition]] = {
    "Equality": lambda a, b: ["==", a, b],
    "Unequality": lambda a, b: ["!=", a, b],
    "LessThan": lambda a, b: ["<=", a, b],
    "StrictLessThan": lambda a, b: ["<", a, b],
    "GreaterThan": lambda a, b: ["<=", b, a],
    "StrictGreaterThan": lambda a, b: ["<", b, a],
}


@dataclass(frozen=True)
class Size:
    """A size that depends on the batch or on named sizes."""

    expression: Expression

    @property
    def names(self) -> set[str]:
        return names_in(self.expression)


BATCH_SIZE = Size(BATCH)


@dataclass(frozen=True)
class Truth:
    """What holds if all of these conditions do: good for an assertion of torch.export, and for nothing else."""

    conditions: tuple[Condition, ...]


class NoSize(ValueError):
    """What the graph computes from sizes and no program does."""


class Rows(NamedTuple):
    """float32 [batch, ...], its other sizes free of the batch: what the native kinds take and give."""

    shape: tuple[int | Size, ...]
    in_order: bool
    """Whether the dimensions lie in memory in their own order."""

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Symbols:
    """What the symbols of a graph stand for. names: of each symbol of sympy, `BATCH` among them."""

    def __init__(self, names: Mapping[Any, str]) -> None:
        self._names = names

    def size_of(self, value: Any) -> Any:
        """A number of the graph as an int, float, bool, `Size` or `Truth`. Raises: NoSize."""
        if not isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
            return value
        expression = value.node.expr
        if not expression.free_symbols:
            return _plain(expression)
        if isinstance(value, torch.SymBool):
            return Truth(tuple(self._conditions(expression)))
        data = self._data(expression)
        try:
            check_expression(data, names_in(data))
            if names_in(data) != {BATCH}:
                return Size(data)
            times, plus = along_batch(data, {})
        except SizeError as error:
            what = self._in_words(expression)
            raise NoSize(f"{what} is a size that no program computes: {error}; {ADVICE}") from error
        if (times, plus) == (1, 0):
            return BATCH_SIZE  # however torch came to it, as by halving two batches
        return Size(data) if times else plus

    def shape_of(self, x: Tensor) -> tuple[int | Size, ...]:
        """Sizes as ints or `Size`. Raises: NoSize."""
        return tuple(self.size_of(n) for n in x.shape)

    def rows(self, x: Any) -> Rows | None:
        """What a native kind may be told of a value; None for what none takes."""
        if not isinstance(x, Tensor) or x.dtype != torch.float32 or x.layout != torch.strided or x.ndim < 2:
            return None
        try:
            shape = self.shape_of(x)
        except NoSize:
            return None
        if shape[0] != BATCH_SIZE or not all(map(_is_free_of_batch, shape[1:])):
            return None
        return Rows(shape, order_of(x) == list(range(x.ndim)))

    def _data(self, expression: Any) -> Expression:
        """Raises: NoSize."""
        kind = type(expression).__name__
        if expression.is_Integer:
            return int(expression)
        if expression in self._names:
            return self._names[expression]
        if kind in OPERATIONS:
            return [OPERATIONS[kind], *map(self._data, expression.args)]
        if kind in POWERS and expression.args[1].is_Integer and 1 < int(expression.args[1]) <= MOST_POWER:
            return ["*", *[self._data(expression.args[0])] * int(expression.args[1])]
        if expression.is_Symbol:
            raise NoSize(f"the size {expression} depends on values of tensors, and those of a program do not")
        raise NoSize(
            f"{self._in_words(expression)} is no sum, product, floor division, minimum or maximum of sizes; {ADVICE}"
        )

    def _conditions(self, expression: Any) -> list[Condition]:
        """Raises: NoSize."""
        kind = type(expression).__name__
        if kind == "And":
            return [condition for part in expression.args for condition in self._conditions(part)]
        if kind == "Or":
            parts = [self._conditions(part) for part in expression.args]
            if all(len(part) == 1 for part in parts):
                return [[OR, *(part[0] for part in parts)]]
        if kind not in COMPARISONS:
            raise NoSize(f"{self._in_words(expression)} is no comparison of sizes; {ADVICE}")
        return [COMPARISONS[kind](*_per_sample(*map(self._data, expression.args)))]

    def _in_words(self, expression: Any) -> str:
        """An expression of sympy with our names in place of torch's."""
        named = {symbol: type(symbol)(name) for symbol, name in self._names.items()}
        return str(reduce(lambda found, pair: found.subs(*pair), named.items(), expression))


def _per_sample(*sides: Expression) -> tuple[Expression, ...]:
    """Two sides of a comparison without the batch, where both are a multiple of it."""
    if not all(isinstance(side, list) and side[0] == "*" and BATCH in side for side in sides):
        return sides
    parts = ([term for index, term in enumerate(side) if index != side.index(BATCH)] for side in sides)  # type: ignore
    return tuple(part if len(part) > 2 else part[1] for part in parts)


ADVICE = "compute it of tensors, or leave the sizes in it fixed"


def _is_free_of_batch(size: int | Size) -> bool:
    return BATCH not in size.names if isinstance(size, Size) else size > 0


def _plain(expression: Any) -> int | float | bool:
    """A number of sympy as Python's."""
    if getattr(expression, "is_Boolean", False) or getattr(expression, "is_BooleanAtom", False):
        return bool(expression)
    return int(expression) if expression.is_integer else float(expression)


def size_in_words(size: int | Size) -> str:
    return in_words(size.expression) if isinstance(size, Size) else str(size)


def same_shape(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same sizes, whatever the unknown ones are."""
    return [_expression(n) for n in a.shape] == [_expression(n) for n in b.shape]


def _expression(size: Any) -> Any:
    return size.node.expr if isinstance(size, torch.SymInt) else size


def order_of(x: Tensor) -> list[int]:
    """Dimensions of x by their place in memory, the outermost first."""
    steps, sizes = [_far(n) for n in x.stride()], [_far(n) for n in x.shape]
    moving = sorted((d for d in range(x.ndim) if sizes[d] != 1), key=lambda d: -steps[d])
    order = iter(moving)
    return [d if sizes[d] == 1 else next(order) for d in range(x.ndim)]


def _far(size: Any) -> int:
    """A size, or a step in memory, where every unknown size is large."""
    expression = _expression(size)
    return (
        expression if isinstance(expression, int) else int(expression.subs(dict.fromkeys(expression.free_symbols, FAR)))
    )
