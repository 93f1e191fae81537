# SPDX-License-Identifier: Apache-2.0
"""Sums, products of two values, softmax, and any function of one number, which becomes a table of its 256 answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from bittern.deploy.interpreter import step_of
from bittern.deploy.kinds.integer.softmax import MOST_ANSWERS
from bittern.deploy.kinds.kind import integer
from bittern.deploy.program import Node
from bittern.ops.fixed_point import EXP_FRACTION_BITS, EXP_INTEGER_BITS, MOST, factor_of
from bittern.ops.integer_add.reference import LEFT_SHIFT
from bittern.ptq.grid import SOFTMAX_GRID, Grid
from bittern.ptq.rule import Forms, Rule
from bittern.ptq.writer import Writer

CPU = torch.device("cpu")


# -- of two values --------------------------------------------------------------------------------------------------


def _pair_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    return None if len(node.inputs) == 2 else "one of its operands is a number of the file"


def _sum(kind: str) -> Callable[[Writer, Node, int, Grid], int]:
    """Both go to twice the larger scale first, where factors below 1 cost no precision."""

    def write(writer: Writer, node: Node, value: int, out: Grid) -> int:
        a, b = (writer.grids[source] for source in node.inputs)
        larger = 2.0 * max(a.scale, b.scale)
        reals = {"a_": a.scale / larger, "b_": b.scale / larger, "": larger / (2**LEFT_SHIFT * out.scale)}
        factors = {
            f"{prefix}{key}": n for prefix, real in reals.items() for key, n in factor_of(real)._asdict().items()
        }
        return _pair(writer, kind, node, out, factors)

    return write


def _multiply(writer: Writer, node: Node, value: int, out: Grid) -> int:
    a, b = (writer.grids[source] for source in node.inputs)
    return _pair(writer, "integer_multiply", node, out, factor_of(a.scale * b.scale / out.scale)._asdict())


def _pair(writer: Writer, kind: str, node: Node, out: Grid, factors: Mapping[str, int]) -> int:
    a, b = (writer.grids[source] for source in node.inputs)
    inputs = [writer.integer(source) for source in node.inputs]
    zeros = {"zero_a": a.zero, "zero_b": b.zero, "out_zero": out.zero}
    return writer.add(kind, node, inputs, None, **zeros, **factors, **writer.ends(out))


# -- softmax -----------------------------------------------------------------------------------------------


def _softmax_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    shape = forms[node.inputs[0]].shape
    if node.attrs["log"]:
        return "there is no logarithm of a softmax in integers"
    answers = shape[integer(node, "dim")]
    return None if answers <= MOST_ANSWERS else f"a softmax in integers has at most {MOST_ANSWERS} answers"


def _softmax(writer: Writer, node: Node, value: int, out: Grid) -> int:
    grid = writer.grids[node.inputs[0]]
    multiplier, shift = factor_of(min(grid.scale * 2**EXP_FRACTION_BITS, float(MOST)))
    if shift < 0:
        raise ValueError(f"quantize: layer {node.name!r}: the scale {grid.scale:g} of its input is too small")
    least = max(-math.floor((2**EXP_INTEGER_BITS - 1) * 2.0**EXP_FRACTION_BITS / 2**shift), -255)
    x, dims = writer.integer(node.inputs[0]), len(writer.shape(node.inputs[0]))
    last = [*range(dims)]
    last.append(last.pop(integer(node, "dim") % dims))
    if last != sorted(last):
        x = writer.moved("permute.default", node, (x,), dims, last)
    y = writer.add("integer_softmax", node, (x,), multiplier=multiplier, shift=shift, least=least)
    if last != sorted(last):
        y = writer.moved("permute.default", node, (y,), dims, sorted(range(dims), key=last.__getitem__))
    return y


# -- functions of one number -------------------------------------------------------------------------------

KINDS_OF_ONE = (
    *("relu", "relu6", "hardtanh", "hardsigmoid", "gelu", "silu", "sigmoid", "tanh", "leaky_relu", "constant", "sign"),
)
OPERATORS_OF_ONE = (
    *("gelu", "hardswish", "elu", "selu", "celu", "mish", "softplus", "log_sigmoid", "hardshrink", "softshrink"),
    *("erf", "exp", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "abs", "neg", "sin", "cos", "atan", "square"),
    *("silu", "sigmoid", "tanh", "relu", "relu6", "hardsigmoid", "hardtanh", "leaky_relu", "clamp", "clamp_min"),
    *("clamp_max", "floor", "ceil", "round"),
)
OVERLOADS_OF_ONE = ("pow.Tensor_Scalar", "add.Scalar", "mul.Scalar", "sub.Scalar", "div.Scalar", "rsub.Scalar")


def _table_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    if len(node.inputs) != 1 or forms[node.inputs[0]].shape != forms[node.output].shape:
        return "it computes with more than one number a place"
    arguments = node.attrs.get("arguments", [])
    assert isinstance(arguments, list)
    if any(isinstance(argument, dict) and not set(argument) <= {"input", "order"} for argument in arguments):
        return "it computes with more than one number a place"
    return None


def _prelu_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    return None if tensors[node.tensors["weight"]].numel() == 1 else "its slopes differ by channel"


def _table(writer: Writer, node: Node, value: int, out: Grid) -> int:
    """The answers of the real node to every number that its input may be; NaN, which none of them was, becomes 0."""
    (source,) = node.inputs
    function = step_of(node, writer.tensors, CPU)
    reals = writer.grids[source].reals(torch.arange(-128, 128)).view(-1, *(1,) * (len(writer.shape(source)) - 1))
    answers = function(reals).flatten().nan_to_num(nan=0.0)
    ends = writer.ends(out)
    entries = out.integers(answers).clamp(ends["low"], ends["high"]).to(torch.int8)
    return writer.add("integer_table", node, (writer.integer(source),), {"table": entries})


_TABLE = Rule(write=_table, problem=_table_problem, takes_limits=True)

POINTWISE_RULES = {
    "add": Rule(write=_sum("integer_add"), problem=_pair_problem, takes_limits=True),
    "subtract": Rule(write=_sum("integer_subtract"), problem=_pair_problem, takes_limits=True),
    "multiply": Rule(write=_multiply, problem=_pair_problem, takes_limits=True),
    "softmax": Rule(write=_softmax, problem=_softmax_problem, fixed=SOFTMAX_GRID),
    "prelu": Rule(write=_table, problem=_prelu_problem, takes_limits=True),
    **dict.fromkeys(KINDS_OF_ONE, _TABLE),
    **{f"aten {name}.default": _TABLE for name in OPERATORS_OF_ONE},
    **{f"aten {name}": _TABLE for name in OVERLOADS_OF_ONE},
}
