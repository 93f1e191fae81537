# SPDX-License-Identifier: Apache-2.0
"""Products of two matrices that are both computed, as `integer_matmul`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from bittern.deploy.kinds.integer.matmul import most_sum
from bittern.deploy.program import Node
from bittern.ops.fixed_point import factor_of
from bittern.ptq.grid import Grid
from bittern.ptq.rule import Forms, Rule
from bittern.ptq.writer import Writer

OPERATORS = ("matmul.default", "bmm.default")


def is_matmul(node: Node) -> bool:
    return node.kind == "aten" and node.attrs["operator"] in OPERATORS


def macs_of(node: Node, forms: Forms) -> int:
    """Multiply-accumulates of one sample."""
    return forms[node.output].elements * forms[node.inputs[0]].shape[-1]


def _problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    arguments = node.attrs["arguments"]
    assert isinstance(arguments, list)
    two = [argument["input"] for argument in arguments if isinstance(argument, dict) and "input" in argument]
    if len(node.inputs) != 2 or two != [0, 1]:
        return "its operands are not two values that are computed"
    a, b = (forms[value].shape for value in node.inputs)
    if len(a) < 3 or a[:-2] != b[:-2]:
        return f"its matrices differ in number: {list(a[1:])} and {list(b[1:])} a sample"
    most = most_sum(a[-1], -128, -128)
    return None if most < 2**31 else f"its sums of {a[-1]} products may leave int32"


def _matmul(writer: Writer, node: Node, value: int, out: Grid) -> int:
    a, b = (writer.grids[source] for source in node.inputs)
    factor = factor_of(a.scale * b.scale / out.scale)._asdict()
    zeros = {"zero_a": a.zero, "zero_b": b.zero, "out_zero": out.zero, "once": True}
    inputs = [writer.integer(source) for source in node.inputs]
    return writer.add("integer_matmul", node, inputs, None, **zeros, **factor, **writer.ends(out))


MATRIX_RULES = {f"aten {name}": Rule(write=_matmul, problem=_problem, takes_limits=True) for name in OPERATORS}
