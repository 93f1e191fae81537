# SPDX-License-Identifier: Apache-2.0
"""Weights of few bits behind real inputs, as numbers: for what runs or writes products of real numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from bittern.deploy.kinds.decoded import DECODED, code_of, real_product, shape_of, weight_of
from bittern.deploy.program import Node, Program, tensor_name


def decoded(program: Program, tensors: Mapping[str, Tensor]) -> tuple[Program, dict[str, Tensor]]:
    """The same program with nodes `conv` and `linear` in place of those that are `decoded`, and their weights.

    Nodes that share a weight go on sharing it. A program without such nodes is given back.
    """
    if all(node.kind != DECODED.name for node in program.nodes):
        return program, dict(tensors)
    found: dict[str, Tensor] = dict(tensors)
    names: dict[object, str] = {}

    def real(node: Node) -> Node:
        key = node.tensors["weight"], code_of(node), shape_of(node)
        if key not in names:
            name = tensor_name(node.name, "numbers")
            while name in found:  # a file may call any tensor so
                name += "'"
            names[key] = name
            found[name] = weight_of(node, node.named(tensors))
        return real_product(node, weight=names[key])

    nodes = tuple(real(node) if node.kind == DECODED.name else node for node in program.nodes)
    used = {name for node in nodes for name in node.tensors.values()}
    return replace(program, nodes=nodes), {name: tensor for name, tensor in found.items() if name in used}
