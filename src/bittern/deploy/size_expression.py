# SPDX-License-Identifier: Apache-2.0
"""Sizes that a program computes of its named sizes and of the batch, as plain data.

An **expression** is a whole number, a name, or a list of an operation and its terms: ["+", "length", 1],
["//", ["*", 3, "height"], 2]. Sums, products, minima and maxima have two terms or more; the floor division and its
remainder, with Python's signs, have two. A **condition** compares two expressions, ["==", "length", ["*", 2, "half"]],
or is a list of such comparisons of which one must hold, ["or", [...], [...]].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

Expression = int | str | list[Any]
Condition = list[Any]

BATCH = "batch"
"""The name of the number of samples in an expression; no other size may have it."""

MOST_DEPTH = 16
"""Expressions within expressions."""
MOST_PARTS = 64
"""Numbers and names of one expression."""
MOST_NUMBER = 2**31
MOST_VALUE = 2**62
"""What no part of an expression may reach; sizes are far below."""

PROBES = (2, 3, 5, 64, 1009)
"""Batches at which an expression is looked at, to see how it grows with the batch."""

OPERATIONS: dict[str, Callable[[Sequence[int]], int]] = {
    "+": sum,
    "*": math.prod,
    "min": min,
    "max": max,
    "//": lambda terms: terms[0] // terms[1],
    "%": lambda terms: terms[0] % terms[1],
}
OF_TWO = ("//", "%")

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<=": lambda a, b: a <= b,
    "<": lambda a, b: a < b,
}


OR = "or"


class SizeError(ValueError):
    """An expression that is none, or that has no value: the message says why."""


def check_expression(expression: Any, names: Collection[str], depth: int = MOST_DEPTH) -> None:
    """Refuse what is no expression of these names and the batch. Raises: SizeError."""
    _check(expression, names, depth)
    if sum(1 for _ in _leaves(expression)) > MOST_PARTS:
        raise SizeError(f"a size has more than {MOST_PARTS} parts")


def _check(expression: Any, names: Collection[str], depth: int) -> None:
    if type(expression) is int and abs(expression) < MOST_NUMBER:
        return
    if isinstance(expression, str):
        if expression != BATCH and expression not in names:
            raise SizeError(f"a size names {expression[:60]!r}, which is none of {', '.join([*names, BATCH])}")
        return
    if not isinstance(expression, list) or not expression or not isinstance(expression[0], str):
        raise SizeError(f"a size is a whole number, a name or a list of an operation; got {str(expression)[:60]!r}")
    if not depth:
        raise SizeError(f"a size is nested more than {MOST_DEPTH} times")
    operation, *terms = expression
    if operation not in OPERATIONS:
        raise SizeError(f"a size is computed by {operation[:60]!r}, which is none of {', '.join(OPERATIONS)}")
    if len(terms) > MOST_PARTS or len(terms) < 2 or (operation in OF_TWO and len(terms) != 2):
        raise SizeError(f"a size has {len(terms)} terms of {operation!r}")
    for term in terms:
        _check(term, names, depth - 1)


def check_condition(condition: Any, names: Collection[str]) -> None:
    """Refuse what is no comparison of two expressions, and no list of them. Raises: SizeError."""
    several = isinstance(condition, list) and condition[:1] == [OR] and 1 < len(condition) <= MOST_PARTS
    for comparison in condition[1:] if several else [condition]:
        _check_comparison(comparison, names)


def _check_comparison(condition: Any, names: Collection[str]) -> None:
    comparison = condition[0] if isinstance(condition, list) and len(condition) == 3 else None
    if not isinstance(comparison, str) or comparison not in COMPARISONS:
        raise SizeError(f"a condition compares two sizes by one of {', '.join(COMPARISONS)}; got {str(condition)[:60]}")
    for side in condition[1:]:
        check_expression(side, names)


def names_in(expression: Expression) -> set[str]:
    """The names that an expression reads, `BATCH` among them."""
    return {leaf for leaf in _leaves(expression) if isinstance(leaf, str)}


def _leaves(expression: Expression) -> Iterator[int | str]:
    if isinstance(expression, list):
        for term in expression[1:]:
            yield from _leaves(term)
    else:
        yield expression


def value_of(expression: Expression, sizes: Mapping[str, int]) -> int:
    """The value of an expression. Raises: SizeError for a division by 0, and for numbers beyond all sizes."""
    if isinstance(expression, str):
        return sizes[expression]
    if isinstance(expression, int):
        return expression
    operation, *terms = expression
    values = [value_of(term, sizes) for term in terms]
    if operation in OF_TWO and values[1] == 0:
        raise SizeError(f"{in_words(expression)} divides by 0")
    value = OPERATIONS[operation](values)
    if abs(value) >= MOST_VALUE:
        raise SizeError(f"{in_words(expression)} is too large")
    return value


def along_batch(expression: Expression, sizes: Mapping[str, int]) -> tuple[int, int]:
    """(times, plus): an expression as times * batch + plus, at these sizes. Raises: SizeError where it is none."""
    found = [value_of(expression, {**sizes, BATCH: batch}) for batch in PROBES]
    times = found[1] - found[0]
    plus = found[0] - PROBES[0] * times
    if any(value != times * batch + plus for batch, value in zip(PROBES, found, strict=True)):
        raise SizeError(f"{in_words(expression)} is no multiple of the batch")
    return times, plus


def holds(condition: Condition, sizes: Mapping[str, int]) -> bool:
    """Whether a condition is met, whatever the batch. Raises: SizeError."""
    batches = PROBES if BATCH in names_of(condition) else (1,)
    return all(_holds(condition, {**sizes, BATCH: batch}) for batch in batches)


def _holds(condition: Condition, sizes: Mapping[str, int]) -> bool:
    comparison, *sides = condition
    if comparison == OR:
        return any(_holds(side, sizes) for side in sides)
    return COMPARISONS[comparison](*(value_of(side, sizes) for side in sides))


def names_of(condition: Condition) -> set[str]:
    """The names that a condition reads, `BATCH` among them."""
    found = (names_of(side) if condition[0] == OR else names_in(side) for side in condition[1:])
    return set().union(*found)


def in_words(expression: Expression) -> str:
    """An expression, or a condition, as Python writes it."""
    if not isinstance(expression, list):
        return str(expression)
    operation, *terms = expression
    if operation in ("min", "max"):
        return f"{operation}({', '.join(map(in_words, terms))})"
    return f" {operation} ".join(_bracketed(term, operation) for term in terms)


def _bracketed(term: Expression, operation: str) -> str:
    alone = not isinstance(term, list) or term[0] in ("min", "max") or operation in (*COMPARISONS, OR)
    return in_words(term) if alone else f"({in_words(term)})"
