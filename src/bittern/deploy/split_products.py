# SPDX-License-Identifier: Apache-2.0
"""Products of bits taken apart into a chain of nodes, for exports that write those one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bittern.deploy.kinds.binary import TORCH
from bittern.deploy.kinds.kind import Step
from bittern.deploy.kinds.torch_scale import torch_scale
from bittern.deploy.program import Node, Program
from bittern.quantizer import InputScale

INPUT_SCALE = "input scale"
"""Kind of a node that multiplies a product by the scale of its real input; files have none."""


def split_products(program: Program, links: Callable[[Node], Sequence[Node]]) -> Program:
    """The same program with a chain in place of each node `binary`.

    links: from such a node to those of its chain, in order. The first keeps its inputs; each further one reads the
    result of the one before it, and then the inputs that it has here.
    """
    nodes: list[Node] = []
    free = max((node.output for node in program.nodes), default=0) + 1
    for node in program.nodes:
        if node.kind != "binary":
            nodes.append(node)
            continue
        chain = links(node)
        for place, link in enumerate(chain):
            inputs = link.inputs if place == 0 else (nodes[-1].output, *link.inputs)
            last = place == len(chain) - 1
            nodes.append(replace(link, inputs=inputs, output=node.output if last else free))
            free += not last
    return replace(program, nodes=tuple(nodes))


def without_input_scale(node: Node) -> Node:
    """A product that reads bits alone."""
    return replace(node, inputs=node.inputs[:1]).with_attrs(input_scale=InputScale.NONE.value, scale_order=TORCH)


def input_scale_node(node: Node) -> tuple[Node, ...]:
    """The node behind a product that multiplies by the scale of its real input; none where there is no such scale."""
    return (replace(node, kind=INPUT_SCALE, inputs=node.inputs[1:], tensors={}),) if len(node.inputs) > 1 else ()


def scale_by_input(node: Node) -> Step:
    """What a node `INPUT_SCALE` computes: (product, real input) -> the product, scaled.

    By operators that every format has, in whatever order those add.
    """
    scale_of = torch_scale(node)
    return lambda y, x: y * scale_of(x)
