# SPDX-License-Identifier: Apache-2.0
"""Collects the nodes of an integer program while a network of real nodes is gone through.

A real value has an integer and a real twin, each made when it is first asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.front.builder import Builder
from bittern.deploy.program import Node
from bittern.ops.fixed_point import factor_of
from bittern.ptq.grid import Grid
from bittern.ptq.rule import Forms

if TYPE_CHECKING:
    from bittern.ptq.recurrent import State


class Weights(NamedTuple):
    """A weight in integers."""

    integers: Tensor
    """int8 [out, ...]."""
    scales: Tensor
    """float64 [out]."""
    bias: Tensor
    """int32 [out], at the scale input * weight."""
    bits: int = 8
    """Of each integer."""


@dataclass(frozen=True)
class Limits:
    """What a unit's result lies between, as real numbers."""

    least: float = -math.inf
    most: float = math.inf


class Writer:
    """An integer program in the making."""

    def __init__(
        self,
        inputs: int,
        forms: Forms,
        tensors: Mapping[str, Tensor],
        grids: Mapping[int, Grid],
        names: Sequence[str],
        weights: Mapping[str, Weights],
        states: Mapping[str, State],
    ) -> None:
        """names: of the inputs; weights: of products in integers, by name; states: of recurrent layers, by name."""
        self.builder = Builder(inputs)
        self.forms, self.tensors, self.grids, self.weights = forms, tensors, grids, weights
        self.states = states
        self.several: dict[int, int] = {}
        """Value of a node with several results in integers, by the value of the first one's real twin."""
        self.limits = Limits()
        """Of the unit that is being written."""
        self.integers: dict[int, int] = {}
        self.reals: dict[int, int] = {value: value for value in range(inputs)}
        self._names = dict(enumerate(names))

    def name(self, value: int, name: str) -> None:
        """How nodes that convert a value are called."""
        self._names[value] = name

    def shape(self, value: int) -> tuple[int, ...]:
        """Of one sample, with a batch of 1."""
        return self.forms[value].shape

    def integer(self, value: int) -> int:
        """The int8 twin of a real value."""
        if value not in self.integers:
            grid = self.grids[value]
            name = self._names[value]
            found: int = self.builder.add(
                "quantize", f"{name}.quantize", (self.reals[value],), {}, scale=grid.scale, zero=grid.zero
            )
            if (grid.low, grid.high) != (-128, 127):
                found = self.clamped(f"{name}.limit", found, grid)
            self.integers[value] = found
        return self.integers[value]

    def real(self, value: int) -> int:
        """The real twin of a value."""
        if value not in self.reals:
            grid, name = self.grids[value], self._names[value]
            self.reals[value] = self.builder.add(
                "dequantize", f"{name}.dequantize", (self.integers[value],), {}, scale=grid.scale, zero=grid.zero
            )
        return self.reals[value]

    def clamped(self, name: str, value: int, grid: Grid) -> int:
        """An int8 value between the limits of a grid."""
        entries = torch.arange(-128, 128).clamp(grid.low, grid.high)
        return self.builder.add("integer_table", name, (value,), {"table": entries.to(torch.int8)})

    def add(
        self,
        kind: str,
        node: Node,
        inputs: Sequence[int],
        tensors: Mapping[str, Tensor | None] | None = None,
        **attrs: Any,
    ) -> int:
        return self.builder.add(kind, node.name, inputs, dict(tensors or {}), **attrs)

    def moved(self, operator: str, node: Node, inputs: Sequence[int], dims: int, *arguments: Any) -> int:
        """An operator of torch that moves int8 values about: it reads the one input, or a list of several."""
        given: list[Any] = [{"input": place, "order": list(range(dims))} for place in range(len(inputs))]
        first = given if operator == "cat.default" else given[0]
        name = f"{node.name}.{operator.split('.')[0]}"
        return self.builder.add("aten", name, inputs, {}, operator=operator, arguments=[first, *arguments])

    def reshaped(self, node: Node, value: int, before: Sequence[int], after: Sequence[int]) -> int:
        """An int8 value [1, ...] under another shape [1, ...]."""
        if tuple(before) == tuple(after):
            return value
        return self.moved("reshape.default", node, (value,), len(before), [-1, *after[1:]])

    def ends(self, grid: Grid) -> dict[str, int]:
        """Attributes low and high of a result: the grid's, or nearer where the unit has limits."""
        low, high = grid.low, grid.high
        if self.limits.least > -math.inf:
            low = max(low, min(high, int(grid.integers(torch.tensor(self.limits.least)))))
        if self.limits.most < math.inf:
            high = max(low, min(high, int(grid.integers(torch.tensor(self.limits.most)))))
        return {"low": low, "high": high}

    def rescaled(self, node: Node, value: int, grid: Grid) -> int:
        """The int8 twin of a value in another grid."""
        own = self.grids[value]
        if own == grid:
            return self.integer(value)
        factor = factor_of(own.scale / grid.scale)._asdict()
        found = self.add("requantize", node, (self.integer(value),), zero=own.zero, out_zero=grid.zero, **factor)
        if (grid.low, grid.high) != (-128, 127):
            found = self.clamped(f"{node.name}.limit", found, grid)
        return found
