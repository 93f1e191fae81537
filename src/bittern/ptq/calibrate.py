# SPDX-License-Identifier: Apache-2.0
"""The grid of every value that is to be integers, from what the network computes on calibration data.

Values that only move or pool others have their grid; where values are joined, those that nothing else reads take the
grid of the result, and the others are brought to it. Values with one grid are observed together.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.interpreter import step_of
from bittern.deploy.liveness import of_nodes, released_after
from bittern.ptq.grid import Grid
from bittern.ptq.observers import Observer
from bittern.ptq.plan import Facts, Unit
from bittern.ptq.recurrent import StateObserver, is_recurrent, joined_with_outputs
from bittern.ptq.steps import input_limits, scale_and_zero

MakeObserver = Callable[..., Observer]
"""A class of observers, or a partial of one; it is told the bits where it asks for them."""
CPU = torch.device("cpu")
SAME_BITS = 8
"""Of values that no product reads, and of the inputs of the network."""


def walk(facts: Facts, inputs: Sequence[Tensor], look: Callable[[int, Any], None]) -> None:
    """Run a network of real nodes, and show every value, by its number."""
    nodes = facts.program.nodes
    values: dict[int, Any] = dict(enumerate(inputs))
    for value, x in values.items():
        look(value, x)
    gone = released_after(of_nodes(nodes), facts.program.output, len(inputs))
    for node, released in zip(nodes, gone, strict=True):
        values[node.output] = step_of(node, facts.tensors, CPU)(*(values[v] for v in node.inputs))
        look(node.output, values[node.output])
        for value in released:
            del values[value]


class Groups:
    """Which values have one grid."""

    def __init__(self, facts: Facts, units: Sequence[Unit]) -> None:
        self._parent: dict[int, int] = {}
        self.fixed: dict[int, Grid] = {}
        """By group: a grid that is not observed."""
        integer = [unit for unit in units if unit.reason is None]
        self.values = _integer_values(facts, integer)
        for unit in integer:
            self._add(facts, unit)
        moved = {unit.output for unit in integer if unit.rule.keeps_scale}
        self.observed = self.values - moved
        """Values that are looked at: a moved one is its source again."""

    def _add(self, facts: Facts, unit: Unit) -> None:
        if unit.rule.fixed is not None:
            self.fixed[self.of(unit.output)] = unit.rule.fixed
        if unit.rule.keeps_scale:
            self._join(unit.node.inputs[0], unit.output)
        if unit.rule.joins:
            for value in unit.node.inputs:
                alone = facts.program.single_consumer(value) is not None
                if alone and self.of(value) not in self.fixed:
                    self._join(value, unit.output)
        if is_recurrent(unit.node):
            for value in joined_with_outputs(unit.node):
                if all(map(is_recurrent, facts.program.consumers(value))) and self.of(value) not in self.fixed:
                    self._join(value, unit.output)

    def _join(self, value: int, other: int) -> None:
        first, second = self.of(value), self.of(other)
        if first != second:
            self._parent[second] = first
            if second in self.fixed:
                self.fixed[first] = self.fixed.pop(second)

    def of(self, value: int) -> int:
        """The number of its group: one of its values."""
        while value in self._parent:
            value = self._parent[value]
        return value


def _integer_values(facts: Facts, units: Iterable[Unit]) -> set[int]:
    """Values that units read or write as integers."""
    return {value for unit in units for value in (*unit.node.inputs, unit.output)}


def bits_of(facts: Facts, units: Sequence[Unit], groups: Groups, inputs: Mapping[int, int]) -> dict[int, int]:
    """Bits of each group: the fewest that a product asks of what it reads.

    inputs: by the value that a product writes. What enters the network, and what no product reads, has 8.
    """
    given = {groups.of(value) for value in range(len(facts.program.inputs)) if value in groups.values}
    found = dict.fromkeys((groups.of(value) for value in groups.values), SAME_BITS)
    for unit in units:
        if unit.reason is None and unit.rule.leads:
            read = {groups.of(unit.node.inputs[0])} | ({groups.of(unit.output)} if is_recurrent(unit.node) else set())
            for group in read - given - set(groups.fixed):
                found[group] = min(found[group], inputs[unit.node.output])
    return found


def with_states(facts: Facts, units: Sequence[Unit], batches: Iterable[Sequence[Tensor]]) -> Facts:
    """The network, and how the states of its recurrent layers count."""
    nodes = [unit.node for unit in units if unit.reason is None and is_recurrent(unit.node)]
    if not nodes:
        return facts
    observer = StateObserver(nodes, facts.tensors)
    for inputs in batches:
        walk(facts, inputs, observer)
    return replace(facts, states=observer.states())


def calibrated(
    facts: Facts,
    batches: Iterable[Sequence[Tensor]],
    groups: Groups,
    bits: Mapping[int, int],
    observer: MakeObserver,
    names: Mapping[int, str],
) -> dict[int, Grid]:
    """The grid of every value that is integers. Raises: ValueError naming a value that is NaN or infinite."""
    seen = {group: _made(observer, bits[group]) for group in map(groups.of, groups.values) if group not in groups.fixed}

    def look(value: int, x: Any) -> None:
        if value in groups.observed and groups.of(value) in seen:
            try:
                seen[groups.of(value)].see(x)
            except ValueError as error:
                raise ValueError(f"quantize: what {names[value]!r} gives on the calibration data: {error}") from error

    for inputs in batches:
        walk(facts, inputs, look)
    grids = {group: _grid(found.range(), bits[group]) for group, found in seen.items()} | groups.fixed
    return {value: grids[groups.of(value)] for value in groups.values}


def _grid(ends: tuple[float, float], bits: int) -> Grid:
    scale, zero = scale_and_zero(*ends, bits=bits)
    return Grid(scale, zero, *input_limits(bits))


def _made(observer: MakeObserver, bits: int) -> Observer:
    asked = inspect.signature(observer).parameters
    return observer(bits=bits) if "bits" in asked else observer()
