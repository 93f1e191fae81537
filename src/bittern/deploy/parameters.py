# SPDX-License-Identifier: Apache-2.0
"""How a packed model is called: the parameters of the forward that it came from, each a tree of tensors (`structure`).

What was None, a number or a text when the model was packed is part of the program: it may be left out, or given as it
was, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from bittern.deploy.structure import CONSTANT, DICT, Tree, branches, built, inside, leaves, same_constant

EITHER, POSITION, KEYWORD = "either", "position", "keyword"
HOW = (EITHER, POSITION, KEYWORD)


class Parameter(NamedTuple):
    """One argument of a packed model."""

    name: str
    tree: Tree
    """Its tensors, by their number among the inputs of the program."""
    how: str = EITHER
    """How it may be given: "either" by position or by its name, or only one of the two."""


ONE = (Parameter("x", 0),)
"""Those of a model that takes one tensor."""


def arguments_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(args, kwargs) of a call that an example stands for: a tuple is all by position, a mapping all by name."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (example if type(example) is tuple else (example,)), {}


def called(parameters: Sequence[Parameter], inputs: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(args, kwargs) with which the model itself is called: by position up to the first constant, then by name."""
    by_position = 0
    for count, parameter in enumerate(parameters, 1):
        if parameter.how == POSITION or (by_position == count - 1 and parameter.how == EITHER and _varies(parameter)):
            by_position = count
    values = [(parameter.name, built(parameter.tree, inputs)) for parameter in parameters]
    return tuple(value for _, value in values[:by_position]), dict(values[by_position:])


def _varies(parameter: Parameter) -> bool:
    """Whether there is a tensor in it."""
    return any(True for _ in leaves(parameter.tree))


def without_constants(parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """The same with None in place of every constant: what torch.export is told of arguments that are no tensors."""

    def emptied(tree: Tree) -> Tree:
        if isinstance(tree, int):
            return tree
        if tree[0] == CONSTANT:
            return [CONSTANT, None]
        start = 2 if tree[0] == DICT else 1
        return [*tree[:start], *map(emptied, tree[start:])]

    return tuple(parameter._replace(tree=emptied(parameter.tree)) for parameter in parameters)


def bound(parameters: Sequence[Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The inputs of a program from the arguments of a call. Raises: TypeError / ValueError naming what does not fit."""
    placed = [parameter.name for parameter in parameters if parameter.how != KEYWORD]
    if len(args) > len(placed):
        raise TypeError(f"packed model: takes at most {len(placed)} arguments by position; got {len(args)}")
    given = dict(zip(placed, args, strict=False))
    named = {parameter.name for parameter in parameters if parameter.how != POSITION}
    for name, value in kwargs.items():
        if name in given or name not in named:
            what = "is given twice" if name in given else f"is none of those that it takes, {', '.join(sorted(named))}"
            raise TypeError(f"packed model: argument {name!r} {what}; call it as the model was called")
        given[name] = value
    found: dict[int, Any] = {}
    for parameter in parameters:
        if parameter.name in given:
            _take(parameter.tree, given[parameter.name], parameter.name, found)
        elif _varies(parameter):
            raise TypeError(f"packed model: argument {parameter.name!r} is missing; call it as the model was called")
    return [found[place] for place in range(len(found))]


def _take(tree: Tree, value: Any, path: str, found: dict[int, Any]) -> None:
    """Note the tensors of a value that must have this structure."""
    if isinstance(tree, int):
        found[tree] = value
        return
    if tree[0] == CONSTANT:
        if isinstance(value, Tensor) or not same_constant(value, tree[1]):
            got = "a tensor" if isinstance(value, Tensor) else repr(value)
            raise ValueError(
                f"packed model: argument {path!r} was {tree[1]!r} when the model was packed, which is part of the "
                f"program; got {got}; pack the model again with it"
            )
        return
    entries = branches(tree)
    if tree[0] == DICT:
        names = [name for name, _ in entries]
        if not isinstance(value, Mapping) or set(value) != set(names):
            raise TypeError(f"packed model: argument {path!r} must be a dict of {', '.join(names)}; got {_kind(value)}")
        values = [value[name] for name in names]
    else:
        if not isinstance(value, (tuple, list)) or len(value) != len(entries):
            raise TypeError(
                f"packed model: argument {path!r} must be a tuple or list of {len(entries)}; got {_kind(value)}"
            )
        values = list(value)
    for (name, entry), part in zip(entries, values, strict=True):
        _take(entry, part, inside(path, name), found)


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"one of {', '.join(map(str, value))}"
    return f"{len(value)} entries" if isinstance(value, (tuple, list)) else type(value).__name__
