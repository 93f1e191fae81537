# SPDX-License-Identifier: Apache-2.0
"""Attention as the products, the factor and the softmax that it is made of, each of which has integers.

softmax(factor q k^T) v, with a factor of 1 / sqrt(channels) unless another is told (Vaswani et al., arXiv:1706.03762).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bittern.deploy.form import Form
from bittern.deploy.program import Node, Program
from bittern.deploy.shapes import forms_of

ATTENTION = "scaled_dot_product_attention.default"


def with_products(program: Program, tensors: Mapping[str, Tensor]) -> Program:
    """The program with the parts of attention in the place of each operator that has no mask."""
    if not any(_is_attention(node) for node in program.nodes):
        return program
    forms = forms_of(program, tensors)
    fresh = max(node.output for node in program.nodes) + 1
    found: dict[int, list[Node]] = {}
    for node in program.nodes:
        if _is_attention(node) and _is_plain(node, forms):
            found[node.output] = _parts(node, forms, fresh)
            fresh += len(found[node.output])
    return program.rewritten(found, {})


def _is_attention(node: Node) -> bool:
    return node.kind == "aten" and node.attrs["operator"] == ATTENTION


def _arguments(node: Node) -> list[Any]:
    """query, key, value, mask, dropout, causal, scale, grouped queries."""
    given = node.attrs["arguments"]
    assert isinstance(given, list)
    defaults: list[Any] = [None, None, None, None, 0.0, False, None, False]
    return [*given, *defaults[len(given) :]]


def _is_plain(node: Node, forms: Mapping[int, Form]) -> bool:
    """Whether it is of three computed values of as many matrices, and every token sees every other."""
    *operands, mask, _, causal, _, grouped = _arguments(node)
    inputs = all(isinstance(operand, dict) and "input" in operand for operand in operands)
    if not inputs or mask is not None or causal or grouped:
        return False
    own = [forms[node.inputs[operand["input"]]] for operand in operands]
    return all(form.type == "real" and form.samples_first for form in own) and (
        len({form.shape[:-2] for form in own}) == 1 and len(own[0].shape) in (3, 4)
    )


def _parts(node: Node, forms: Mapping[int, Form], fresh: int) -> list[Node]:
    arguments = _arguments(node)
    query, key, value = (node.inputs[operand["input"]] for operand in arguments[:3])
    shape = forms[query].shape
    factor = arguments[6] if arguments[6] is not None else 1.0 / math.sqrt(shape[-1])
    dims = len(shape)
    turned = [*range(dims - 2), dims - 1, dims - 2]

    def product(name: str, a: int, b: int, out: int) -> Node:
        given: list[Any] = [{"input": place, "order": list(range(dims))} for place in range(2)]
        return Node("aten", f"{node.name}.{name}", (a, b), out, {"operator": "matmul.default", "arguments": given})

    return [
        Node("permute", f"{node.name}.turned", (key,), fresh, {"order": turned}),
        product("scores", query, fresh, fresh + 1),
        Node(
            "constant",
            f"{node.name}.factor",
            (fresh + 1,),
            fresh + 2,
            {"operation": "multiply", "value": float(factor)},
        ),
        Node("softmax", f"{node.name}.softmax", (fresh + 2,), fresh + 3, {"dim": dims - 1, "log": False}),
        product("mixed", fresh + 3, value, node.output),
    ]
