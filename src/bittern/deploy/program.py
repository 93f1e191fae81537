# SPDX-License-Identifier: Apache-2.0
"""The program of a packed model: a list of nodes over numbered values, as plain data.

The inputs are the first values, 0, 1, ... Every node reads values that earlier nodes wrote and writes one new value. A
value is a real tensor, an int32 accumulator, or the bit planes of a tensor. What each kind of node computes is in
`kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.parameters import ONE, Parameter
from bittern.deploy.size_expression import Condition

Attr = int | float | bool | str | list[Any] | None


def type_name(dtype: torch.dtype) -> str:
    """How a file calls a type."""
    return str(dtype).removeprefix("torch.")


VALUE_TYPES = {
    type_name(t): t
    for t in (torch.float32, torch.int64, torch.int32, torch.bool, torch.uint8, torch.int8, torch.int16, torch.float64)
}
"""Types that values may have, by name; only operators of torch read others than float32."""

MOST_DIMS = 8
"""Of an input, the batch among them."""


def tensor_name(node: str, role: str) -> str:
    """Name in the file of a node's tensor."""
    return f"{node}.{role}"


@dataclass(frozen=True)
class Node:
    """One step of a program."""

    kind: str
    """Name of a kind of `kinds.table`."""
    name: str
    """Path of the module it came from, for messages."""
    inputs: tuple[int, ...]
    output: int
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)
    """Role -> name in the file."""

    def named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Its tensors by role, from those of the file."""
        return {role: tensors[name] for role, name in self.tensors.items()}

    def with_attrs(self, **attrs: Attr) -> Node:
        return replace(self, attrs={**self.attrs, **attrs})

    def with_tensors(self, **tensors: str) -> Node:
        return replace(self, tensors={**self.tensors, **tensors})


@dataclass(frozen=True)
class Input:
    """One tensor that a program takes."""

    name: str
    """The parameter of the forward, or its path in it, such as "state.0"."""
    shape: tuple[int, ...]
    """Sizes without the batch; `OPEN` where the size has a name (`named`)."""
    type: str = "float32"
    """One of `VALUE_TYPES`."""
    batch: int | None = 0
    """Which dimension is the batch; None: it has none, and holds for all samples."""
    named: tuple[tuple[int, str], ...] = ()
    """(place in `shape`, name of a size) of those that a call chooses."""

    def shape_at(self, batch: int) -> tuple[int, ...]:
        """All sizes of so many samples."""
        return self.shape if self.batch is None else (*self.shape[: self.batch], batch, *self.shape[self.batch :])

    @property
    def sizes(self) -> tuple[int | str, ...]:
        """Sizes without the batch, as numbers or names."""
        names = dict(self.named)
        return tuple(names.get(place, size) for place, size in enumerate(self.shape))


OPEN = -1
"""In the shape of an input: a size that a call chooses."""

MOST_SIZES = 16
"""Named sizes of one program."""


class NamedSize(NamedTuple):
    """A size of the inputs that a call chooses, apart from the batch."""

    name: str
    example: int
    """What it was when the model was packed: a program with sizes is checked with these."""
    least: int = 1
    most: int | None = None
    """None: as large as memory allows."""


def one_input(shape: Sequence[int], kind: str = "float32") -> tuple[Input, ...]:
    """The inputs of a program that takes one tensor [batch, *shape]."""
    return (Input("x", tuple(shape), kind),)


@dataclass(frozen=True)
class Program:
    """Nodes in the order of their execution."""

    nodes: tuple[Node, ...]
    inputs: tuple[Input, ...]
    """Values 0, 1, ...: at least one has a batch, and all that have one share it."""
    output: int
    parameters: tuple[Parameter, ...] = ONE
    """How its inputs are given in a call."""
    sizes: tuple[NamedSize, ...] = ()
    """Those that a call chooses. A program that has any does not run; `named_sizes.fixed` makes one of it that does."""
    conditions: tuple[Condition, ...] = ()
    """What must hold for them."""

    @cached_property
    def batch_input(self) -> int:
        """The first input with a batch."""
        return next(value for value, given in enumerate(self.inputs) if given.batch is not None)

    def batch_of(self, inputs: Sequence[Tensor]) -> int:
        """How many samples these inputs are."""
        value, dim = self._batch_place
        return inputs[value].shape[dim]

    @cached_property
    def _batch_place(self) -> tuple[int, int]:
        """(the first input with a batch, its dimension)."""
        return self.batch_input, self.inputs[self.batch_input].batch or 0

    def rewritten(self, new: Mapping[int, Sequence[Node]], renamed: Mapping[int, int]) -> Program:
        """Nodes replaced, by their output number, by others or none; then `renamed` values read under new numbers."""
        nodes = (
            replace(part, inputs=tuple(renamed.get(v, v) for v in part.inputs))
            for node in self.nodes
            for part in new.get(node.output, (node,))
        )
        return replace(self, nodes=tuple(nodes), output=renamed.get(self.output, self.output))

    @cached_property
    def _readers(self) -> dict[int, tuple[Node, ...]]:
        readers: dict[int, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                readers.setdefault(value, []).append(node)
        return {value: tuple(nodes) for value, nodes in readers.items()}

    @cached_property
    def _writers(self) -> dict[int, Node]:
        return {node.output: node for node in reversed(self.nodes)}

    def consumers(self, value: int) -> tuple[Node, ...]:
        return self._readers.get(value, ())

    def producer(self, value: int) -> Node | None:
        return self._writers.get(value)

    def single_consumer(self, value: int) -> Node | None:
        """The one node that reads `value`, or None when there are several or it is the result."""
        readers = self.consumers(value)
        return readers[0] if len(readers) == 1 and value != self.output else None
