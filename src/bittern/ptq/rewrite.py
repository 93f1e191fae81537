# SPDX-License-Identifier: Apache-2.0
"""From a network of real nodes, a plan and grids to a program of integers, with what stays float between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch import Tensor

from bittern.deploy.kinds.results import RESULTS
from bittern.deploy.program import Node, Program
from bittern.ptq.grid import Grid
from bittern.ptq.plan import Facts, Unit
from bittern.ptq.writer import Limits, Weights, Writer


class Written(NamedTuple):
    """An integer program, and where in it the values of the network are."""

    program: Program
    tensors: dict[str, Tensor]
    integers: dict[int, int]
    """Value of the network -> int8 value of the program."""
    reals: dict[int, int]
    """Value of the network -> real value of the program."""
    parts: dict[int, tuple[Node, ...]]
    """Value of a unit -> the nodes that became of it."""


def written(facts: Facts, units: Sequence[Unit], grids: Mapping[int, Grid], weights: Mapping[str, Weights]) -> Written:
    """weights: of each product in integers, by name."""
    program = facts.program
    names = [given.name for given in program.inputs]
    writer = Writer(len(program.inputs), facts.forms, facts.tensors, grids, names, weights, facts.states)
    parts: dict[int, tuple[Node, ...]] = {}
    for unit in units:
        before = len(writer.builder.nodes)
        writer.name(unit.output, unit.node.name)
        if unit.reason is None:
            writer.limits = Limits(unit.least, unit.most)
            value = unit.rule.write(writer, unit.node, unit.output, grids[unit.output])
            (writer.reals if unit.rule.real(unit.node) else writer.integers)[unit.output] = value
        else:
            writer.reals[unit.output] = _float(writer, unit.node)
        parts[unit.output] = tuple(writer.builder.nodes[before:])
    last = program.producer(program.output)
    if last is not None and last.kind == RESULTS.name:
        output = _float(writer, last)
    else:
        output = writer.real(program.output)
    found = replace(program, nodes=tuple(writer.builder.nodes), output=output)
    return Written(found, writer.builder.tensors, writer.integers, writer.reals, parts)


def _float(writer: Writer, node: Node) -> int:
    """A node as it is, on real values, which lie in the order of their dimensions."""
    tensors: dict[str, Tensor | None] = dict(node.named(writer.tensors))
    attrs = dict(node.attrs)
    if node.kind == "aten":
        dims = [len(writer.forms[value].at(0).shape) for value in node.inputs]
        fresh = [value in writer.integers for value in node.inputs]
        attrs["arguments"] = [_in_order(argument, dims, fresh) for argument in _listed(attrs["arguments"])]
    return writer.builder.add(node.kind, node.name, [writer.real(value) for value in node.inputs], tensors, **attrs)


def _listed(arguments: Any) -> list[Any]:
    assert isinstance(arguments, list)
    return arguments


def _in_order(argument: Any, dims: Sequence[int], fresh: Sequence[bool]) -> Any:
    """An argument that reads a value which an operator of torch wrote before, and a `dequantize` writes now."""
    if isinstance(argument, list):
        return [_in_order(entry, dims, fresh) for entry in argument]
    if isinstance(argument, dict) and "input" in argument and "order" not in argument and fresh[argument["input"]]:
        return {**argument, "order": list(range(dims[argument["input"]]))}
    return argument
