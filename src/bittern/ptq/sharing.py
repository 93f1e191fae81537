# SPDX-License-Identifier: Apache-2.0
"""Chains of layers in a network whose channels may share their ranges (`equalize`), before anything is observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bittern.deploy.kinds.kind import integer
from bittern.deploy.program import Node
from bittern.ptq.equalize import Layer, equalize
from bittern.ptq.plan import Facts, Unit

KINDS = ("conv", "linear")


def equalized(facts: Facts, units: Sequence[Unit]) -> Facts:
    """The network with the ranges of neighbouring layers alike; it computes the same, but for roundings.

    Neighbours are two convolutions or two linear layers with nothing or a ReLU between, of which the second alone reads
    the first. A ReLU6 cuts channels that were divided elsewhere, so that its neighbours stay as they are.
    """
    tensors = dict(facts.tensors)
    for chain in chains(facts, units):
        layers = [
            Layer(tensors[node.tensors["weight"]], tensors[node.tensors["bias"]], groups=_groups(node))
            for node in chain
        ]
        for node, layer in zip(chain, equalize(layers).layers, strict=True):
            assert layer.bias is not None
            tensors |= {node.tensors["weight"]: layer.weight, node.tensors["bias"]: layer.bias}
    return replace(facts, tensors=tensors)


def chains(facts: Facts, units: Sequence[Unit]) -> list[list[Node]]:
    """Runs of two and more such neighbours."""
    by_value = {unit.node.output: unit for unit in units}
    behind: dict[int, Node] = {}
    for unit in units:
        reader = _reader(facts, unit)
        if reader is not None and by_value[reader.output].reason is None:
            behind[unit.node.output] = reader
    seconds = {node.output for node in behind.values()}
    found = []
    for unit in units:
        if unit.node.output in behind and unit.node.output not in seconds:
            chain = [unit.node]
            while chain[-1].output in behind:
                chain.append(behind[chain[-1].output])
            found.append(chain)
    return found


def _reader(facts: Facts, unit: Unit) -> Node | None:
    """The neighbour behind a layer."""
    plain = unit.most == math.inf and unit.least in (-math.inf, 0.0)
    reader = facts.program.single_consumer(unit.output)
    if unit.reason is not None or unit.node.kind not in KINDS or not plain or reader is None:
        return None
    return reader if reader.kind == unit.node.kind else None


def _groups(node: Node) -> int:
    return integer(node, "groups") if node.kind == "conv" else 1
