# SPDX-License-Identifier: Apache-2.0
"""The example that a model is packed with: its tensors, and how they are given to the forward.

A tensor is the one argument of the model; a tuple holds all arguments by position, a mapping all by name. Arguments
may be tuples, lists and dicts of tensors. None, numbers and texts among them, and the forward's own defaults, become
part of the program.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from inspect import Parameter as Python
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bittern.deploy.errors import PackError
from bittern.deploy.input_check import type_and_advice
from bittern.deploy.parameters import EITHER, KEYWORD, ONE, POSITION, Parameter, arguments_of
from bittern.deploy.program import VALUE_TYPES
from bittern.deploy.structure import CONSTANT, DICT, LIST, MOST_ENTRIES, TUPLE, Tree, check_tree, inside, is_constant

HOW: dict[Any, str] = {Python.POSITIONAL_ONLY: POSITION, Python.KEYWORD_ONLY: KEYWORD}


class Example(NamedTuple):
    """What a model is called with."""

    parameters: tuple[Parameter, ...]
    names: tuple[str, ...]
    """Of each tensor."""
    tensors: tuple[Tensor, ...]
    """Copies of their own, contiguous."""

    @property
    def channels(self) -> int | None:
        """Of the images, where the model takes images and nothing else."""
        first = self.tensors[0]
        return first.shape[1] if self.parameters == ONE or (len(self.tensors) == 1 and first.ndim > 1) else None


def read_example(model: nn.Module, example: Any) -> Example:
    """Raises: PackError for what a packed model cannot be called with."""
    if isinstance(example, Tensor):
        return Example(ONE, ("x",), (_checked("example", example, 2),))
    if not isinstance(example, (tuple, Mapping)):
        raise PackError(
            "pack: example must be a torch.Tensor, a tuple of the arguments by position or a dict of them by name; "
            f"got {type_and_advice(example)}"
        )
    reader = _Reader()
    parameters = reader.parameters(model, *arguments_of(example))
    if not reader.tensors:
        raise PackError("pack: there is no tensor in the example; give what the model is called with")
    if len(reader.tensors) > MOST_ENTRIES:
        raise PackError(f"pack: the example has {len(reader.tensors)} tensors; a program takes {MOST_ENTRIES}")
    return Example(parameters, tuple(reader.names), tuple(reader.tensors))


class _Reader:
    """Collects the tensors of an example while its arguments become trees."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.tensors: list[Tensor] = []

    def parameters(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Parameter, ...]:
        signature = inspect.signature(model.forward)
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise PackError(
                f"pack: the example does not fit {type(model).__name__}.forward{signature}: {error}"
            ) from None
        found: list[Parameter] = []
        gap = False
        """Whether an argument was left out whose default no file holds: those behind it have no position."""
        for name, python in signature.parameters.items():
            if python.kind is Python.VAR_POSITIONAL:
                entries = [(f"{name}.{place}", value, POSITION) for place, value in enumerate(given.get(name, ()))]
            elif python.kind is Python.VAR_KEYWORD:
                entries = [(key, value, KEYWORD) for key, value in given.get(name, {}).items()]
            elif name in given or is_constant(python.default):
                how = KEYWORD if gap else HOW.get(python.kind, EITHER)
                entries = [(name, given.get(name, python.default), how)]
            else:
                gap = True
                continue
            found += [Parameter(key, self.tree(value, key), how) for key, value, how in entries]
        return tuple(found)

    def tree(self, value: Any, path: str) -> Tree:
        """One argument as data. Raises: PackError."""
        tree = self._tree(value, path)
        try:
            check_tree(tree)
        except ValueError as error:
            raise PackError(f"pack: argument {path!r} of the example: {error}") from error
        return tree

    def _tree(self, value: Any, path: str) -> Tree:
        if isinstance(value, Tensor):
            self.names.append(path)
            self.tensors.append(_checked(f"argument {path!r} of the example", value, 0))
            return len(self.tensors) - 1
        if is_constant(value):
            return [CONSTANT, value]
        if type(value) in (tuple, list):
            entries = [self._tree(entry, inside(path, place)) for place, entry in enumerate(value)]
            return [TUPLE if type(value) is tuple else LIST, *entries]
        if type(value) is dict and all(isinstance(name, str) for name in value):
            return [DICT, list(value), *(self._tree(entry, inside(path, name)) for name, entry in value.items())]
        kind = type(value)
        raise PackError(
            f"pack: argument {path!r} of the example is {kind.__module__}.{kind.__qualname__}, which no file holds; a "
            "packed model takes tensors, None, numbers and texts, in tuples, lists and dicts by name"
        )


def _checked(what: str, x: Tensor, least_dims: int) -> Tensor:
    """A copy of an example of an input. Raises: PackError for what no program takes."""
    dense = x.layout == torch.strided and x.device.type == "cpu"
    if not dense or x.dtype not in VALUE_TYPES.values() or x.ndim < least_dims or 0 in x.shape:
        sizes = "[batch, ...] with at least one sample, " if least_dims else "without sizes of 0, "
        raise PackError(
            f"pack: {what} must be a CPU tensor {sizes}float32 or of {_other_types()}; "
            f"got {x.dtype} {list(x.shape)} on {x.device}"
        )
    return x.detach().clone(memory_format=torch.contiguous_format)


def _other_types() -> str:
    return ", ".join(name for name in VALUE_TYPES if name != "float32")
