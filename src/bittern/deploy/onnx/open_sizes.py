# SPDX-License-Identifier: Apache-2.0
"""Named sizes of a program while torch.export watches: its own symbols stand in place of the names.

What a program computes of them (`size_expression`) is then computed of symbols, and torch.onnx writes it as nodes on
shapes. An attribute that ONNX wants as a number would fix a size: torch.export then forgets its symbol.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.named_sizes import sizes_of
from bittern.deploy.program import Node, Program
from bittern.deploy.size_expression import BATCH, Expression

Symbols = Mapping[str, Any]
"""Of each named size, and of the batch, the symbol of torch.export; a number where it is fixed."""


def symbols_of(program: Program, inputs: Sequence[Tensor]) -> Symbols:
    """Those of the inputs of a program; none where no size has a name."""
    return {**sizes_of(program, inputs), BATCH: program.batch_of(inputs)} if program.sizes else {}


def fixed_names(symbols: Symbols) -> list[str]:
    """Sizes that torch.export has taken for a number."""
    return [name for name, size in symbols.items() if isinstance(size, int) or not size.node.expr.free_symbols]


def has_sizes(node: Node) -> bool:
    """Whether an attribute depends on named sizes."""
    return _has_sizes([*node.attrs.values()])


def _has_sizes(value: Any) -> bool:
    return any(map(_has_sizes, value)) if isinstance(value, list) else isinstance(value, dict) and "size" in value


def with_symbols(node: Node, symbols: Symbols) -> Node:
    """A node with symbols in place of expressions."""
    return node.with_attrs(**{key: _with_symbols(value, symbols) for key, value in node.attrs.items()})


def _with_symbols(value: Any, symbols: Symbols) -> Any:
    if isinstance(value, list):
        return [_with_symbols(entry, symbols) for entry in value]
    return _computed(value["size"], symbols) if _has_sizes(value) else value


FAR = 2**31
"""More than any size."""


def _floor_division(terms: Sequence[Any]) -> Any:
    """Moved up to numbers above 0: torch.onnx writes the division of ONNX, which rounds to 0. Divisors are above 0."""
    a, b = terms
    return (a + FAR * b) // b - FAR


OPERATIONS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "+": sum,
    "*": math.prod,
    "min": lambda terms: reduce(torch.sym_min, terms),
    "max": lambda terms: reduce(torch.sym_max, terms),
    "//": _floor_division,
    "%": lambda terms: terms[0] % terms[1],
}
"""Those of `size_expression`, of symbols."""


def _computed(expression: Expression, symbols: Symbols) -> Any:
    if isinstance(expression, str):
        return symbols[expression]
    if isinstance(expression, int):
        return expression
    operation, *terms = expression
    computed = [_computed(term, symbols) for term in terms]
    if operation == "//" and not _may_be_negative(terms[0]):
        return computed[0] // computed[1]
    return OPERATIONS[operation](computed)


def _may_be_negative(expression: Expression) -> bool:
    """Whether there is a number below 0 in it: sizes are none, and sums and products of none are none."""
    if isinstance(expression, list):
        return any(map(_may_be_negative, expression[1:]))
    return isinstance(expression, int) and expression < 0
