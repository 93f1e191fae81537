# SPDX-License-Identifier: Apache-2.0
"""Convolutions that stand in a program as operators of torch, with numbers of the file: as nodes `conv`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bittern.deploy.program import Node, Program

OPERATORS = {"conv1d.default": 1, "conv2d.default": 2}
"""With how many dimensions of space."""


def with_convolutions(program: Program) -> Program:
    """The program with a node `conv` in place of each such operator; the others stay."""
    return replace(program, nodes=tuple(map(_conv, program.nodes)))


def _conv(node: Node) -> Node:
    dims = OPERATORS.get(str(node.attrs.get("operator"))) if node.kind == "aten" else None
    arguments = node.attrs.get("arguments")
    if dims is None or not isinstance(arguments, list) or len(node.inputs) != 1:
        return node
    defaults: list[Any] = [None, None, None, [1], [0], [1], 1]
    _, weight, bias, *geometry, groups = [*arguments, *defaults[len(arguments) :]]
    constant = isinstance(weight, dict) and "tensor" in weight and (bias is None or "tensor" in bias)
    if not constant or any(isinstance(part, str) for part in geometry):
        return node
    tensors = {"weight": node.tensors[weight["tensor"]]}
    if bias is not None:
        tensors["bias"] = node.tensors[bias["tensor"]]
    each = [part * dims if len(part) == 1 else part for part in geometry]
    attrs = dict(zip(("stride", "padding", "dilation"), each, strict=True)) | {"groups": groups}
    return replace(node, kind="conv", attrs=attrs, tensors=tensors)
