# SPDX-License-Identifier: Apache-2.0
"""What models are given and what they answer: tensors, alone or in tuples and dicts, and how that is written as data.

A **tree** is the structure without the tensors: a number is a place in the list of tensors, ["tuple", tree, ...] and
["list", tree, ...] are what they say, ["dict", [name, ...], tree, ...] is a mapping, ["constant", value] None, a number
or a text. Arguments of a packed model (`parameters`) and the results of a program (`kinds.results`) are both written
so. A packed model returns a tuple for a tuple or list, and a dict for a mapping, a named tuple or a ModelOutput of
transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

Tree = int | list[Any]

TUPLE, LIST, DICT, CONSTANT = "tuple", "list", "dict", "constant"

MOST_DEPTH = 8
"""Trees within trees."""
MOST_ENTRIES = 256
"""Tensors of a tree, and entries of one tuple or dict."""
MOST_LETTERS = 1000
"""Of a name or a constant."""


def is_constant(value: Any) -> bool:
    """Whether a value that is no tensor can be written into a file."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or type(value) in (bool, int) or (isinstance(value, str) and len(value) <= MOST_LETTERS)


def same_constant(value: Any, fixed: Any) -> bool:
    """Whether a constant is the one that was written, of the same type."""
    return type(value) is type(fixed) and bool(value == fixed)


# -- trees -------------------------------------------------------------------------------------------------


def inside(path: str, name: str | int) -> str:
    """Path of an entry of a tuple or dict: "state.0"."""
    return f"{path}.{name}" if path else str(name)


def branches(tree: list[Any]) -> list[tuple[str, Tree]]:
    """The entries of a tuple or dict by name or place."""
    if tree[0] == DICT:
        return list(zip(tree[1], tree[2:], strict=True))
    return [(str(place), entry) for place, entry in enumerate(tree[1:])]


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, int]]:
    """(path, place in the list) of each tensor, in the order of the tree."""
    if isinstance(tree, int):
        yield path, tree
    elif tree[0] != CONSTANT:
        for name, entry in branches(tree):
            yield from leaves(entry, inside(path, name))


def built(tree: Tree, tensors: Sequence[Any]) -> Any:
    """The structure with these tensors in it."""
    if isinstance(tree, int):
        return tensors[tree]
    if tree[0] == CONSTANT:
        return tree[1]
    entries = [(name, built(entry, tensors)) for name, entry in branches(tree)]
    if tree[0] == DICT:
        return dict(entries)
    values = [value for _, value in entries]
    return values if tree[0] == LIST else tuple(values)


def check_tree(tree: Any, depth: int = MOST_DEPTH) -> None:
    """Raises: ValueError, saying what is wrong, for what is no tree."""
    if type(tree) is int:
        return
    if not isinstance(tree, list) or not tree or len(tree) > MOST_ENTRIES + 2:
        raise ValueError(f"a structure is a number or a list; got {str(tree)[:60]!r}")
    if tree[0] == CONSTANT:
        if len(tree) != 2 or not is_constant(tree[1]):
            raise ValueError(f"a constant is None, a number or a text; got {str(tree[1:])[:60]!r}")
        return
    if not depth:
        raise ValueError(f"a structure is nested more than {MOST_DEPTH} times")
    entries = tree[1:]
    if tree[0] == DICT:
        names, *entries = tree[1:] or [None]
        sound = isinstance(names, list) and all(isinstance(n, str) and len(n) <= MOST_LETTERS for n in names)
        if not sound or len(set(names)) != len(names) or len(names) != len(entries):
            raise ValueError(f"a dict has a different name for each of its entries; got {str(names)[:60]!r}")
    elif tree[0] not in (TUPLE, LIST):
        raise ValueError(f"a structure is a tuple, a list, a dict or a constant; got {str(tree[0])[:60]!r}")
    for entry in entries:
        check_tree(entry, depth - 1)


# -- answers -----------------------------------------------------------------------------------------------


def mapped(result: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """A result with a function applied to each of its tensors."""
    if isinstance(result, Tensor):
        return function(result)
    if isinstance(result, dict):
        return {name: mapped(value, function) for name, value in result.items()}
    return tuple(mapped(value, function) for value in result) if isinstance(result, tuple) else result


def named(answer: Any) -> dict[str, Tensor] | None:
    """The tensors of what a model or a packed model returns, by path; None where it is nothing of the kind."""
    found: dict[str, Tensor] = {}
    return found if _note(answer, "", found) and found else None


def _note(answer: Any, path: str, found: dict[str, Tensor]) -> bool:
    """Note the tensors of an answer. Returns whether it is made of tensors, constants, tuples and mappings alone."""
    if isinstance(answer, Tensor):
        found[path] = answer
        return True
    if isinstance(answer, Mapping):
        entries = [(str(name), value) for name, value in answer.items()]
    elif isinstance(answer, tuple) and hasattr(answer, "_fields"):
        entries = list(zip(answer._fields, answer, strict=True))
    elif isinstance(answer, (tuple, list)):
        entries = [(str(place), value) for place, value in enumerate(answer)]
    else:
        return is_constant(answer)
    return all(_note(value, inside(path, name), found) for name, value in entries)
