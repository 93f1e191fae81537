# SPDX-License-Identifier: Apache-2.0
"""What stays float between integers: runs of such nodes, each written by torch.onnx and put among the others.

Between a DequantizeLinear and a QuantizeLinear a value is a float32 [batch, ...], which both sides know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bittern.deploy.errors import ExportError
from bittern.deploy.form import Form, Tensors
from bittern.deploy.interpreter import step_of
from bittern.deploy.kinds.results import RESULTS
from bittern.deploy.onnx.dialect import ARITHMETIC
from bittern.deploy.onnx.graph import exported
from bittern.deploy.onnx.integers.graph import Graph
from bittern.deploy.onnx.low_bit import split
from bittern.deploy.onnx.module import Parts
from bittern.deploy.parameters import Parameter
from bittern.deploy.program import Input, Node, Program

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Island:
    """Float nodes behind each other."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    """Values that it reads."""
    outputs: tuple[int, ...]
    """Values that others read."""


def parted(program: Program, is_integer: Callable[[Node], bool]) -> list[Node | Island]:
    """Integer nodes as they are, and those between them as islands, in an order that computes them."""
    found: list[Node | Island] = []
    run: list[Node] = []
    for node in program.nodes:
        if not is_integer(node):
            run.append(node)
            continue
        if _reads(node, run):
            found.append(_island(program, run))
            run = []
        found.append(node)
    return found + ([_island(program, run)] if run else [])


def _reads(node: Node, run: Sequence[Node]) -> bool:
    return not {part.output for part in run}.isdisjoint(node.inputs)


def _island(program: Program, nodes: Sequence[Node]) -> Island:
    made = {node.output for node in nodes}
    inputs = dict.fromkeys(value for node in nodes for value in node.inputs if value not in made)
    inside = {node.output for node in nodes}
    outputs = [
        node.output
        for node in nodes
        if node.output == program.output or any(r.output not in inside for r in program.consumers(node.output))
    ]
    return Island(tuple(nodes), tuple(inputs), tuple(outputs))


def write_island(g: Graph, island: Island, names: Mapping[int, str]) -> None:
    """Append the nodes and numbers of an island. Raises: ExportError for a value that is no float32 [batch, ...]."""
    first = island.nodes[0]
    if any(node.kind == RESULTS.name for node in island.nodes):
        raise ExportError(f"to_onnx: node {first.name!r}: a network of integers is written with one result")
    for value in (*island.inputs, *island.outputs):
        form = g.forms[value]
        if form.type != "real" or not form.samples_first:
            raise ExportError(
                f"to_onnx: node {first.name!r} stays float, and reads or gives something else than float32 [batch, ...]"
            )
    made = exported(Parts(split(_program(island, g.forms)), g.tensors, ARITHMETIC), _shown(island))
    _put_in(g, made, island, names)


def _place(island: Island, value: int) -> int:
    """The number of a value in the island's own program."""
    if value in island.inputs:
        return island.inputs.index(value)
    return len(island.inputs) + [node.output for node in island.nodes].index(value)


def _shown(island: Island) -> tuple[int, ...]:
    return tuple(_place(island, value) for value in island.outputs[:-1])


def _program(island: Island, forms: Mapping[int, Form]) -> Program:
    nodes = tuple(
        replace(node, inputs=tuple(_place(island, v) for v in node.inputs), output=_place(island, node.output))
        for node in island.nodes
    )
    inputs = tuple(Input(f"x{i}", forms[value].shape[1:]) for i, value in enumerate(island.inputs))
    parameters = tuple(Parameter(given.name, i) for i, given in enumerate(inputs))
    return Program(nodes, inputs, _place(island, island.outputs[-1]), parameters)


def _put_in(g: Graph, made: Any, island: Island, names: Mapping[int, str]) -> None:
    """The graph of a model under names of its own."""
    if made.functions:
        raise ExportError(
            f"to_onnx: node {island.nodes[0].name!r} is written by functions, for which there is no place"
        )
    prefix = f"island{len(g.nodes)}_"
    own = {value.name: names[v] for value, v in zip(made.graph.input, island.inputs, strict=True)}
    results = (island.outputs[-1], *island.outputs[:-1])
    given = {value.name: names[v] for value, v in zip(made.graph.output, results, strict=True)}

    def named(name: str) -> str:
        return own.get(name) or given.get(name) or (f"{prefix}{name}" if name else "")

    for tensor in made.graph.initializer:
        tensor.name = named(tensor.name)
        g.numbers.append(tensor)
    for node in made.graph.node:
        node.name = f"{prefix}{node.name}"
        node.input[:] = [named(name) for name in node.input]
        node.output[:] = [named(name) for name in node.output]
        g.nodes.append(node)


MOST_APART = 1e-3
"""Of the largest number of a result, in which ONNX Runtime adds in an order of its own."""


def check_island(island: Island, tensors: Tensors, names: Mapping[int, str], given: Mapping[str, Tensor]) -> None:
    """Compare its results with torch's, on what the runtime gave it. Raises: ExportError."""
    values: dict[int, Any] = {value: given[names[value]].contiguous() for value in island.inputs}
    for node in island.nodes:
        values[node.output] = step_of(node, tensors, CPU)(*(values[v] for v in node.inputs))
    for value in island.outputs:
        wanted, found = values[value].double(), given[names[value]].double()
        apart = float((wanted - found).abs().max()) / max(float(wanted.abs().max()), 1.0)
        if not apart <= MOST_APART:
            name = next(node.name for node in island.nodes if node.output == value)
            raise ExportError(f"to_onnx: node {name!r} stays float and is {apart:.2g} off; nothing was written")
