# SPDX-License-Identifier: Apache-2.0
"""What each kind of node of integers becomes in ONNX.

A program has factors, no scales. Inside a network a real number is one step of its integers: a value is dequantized
with the scale 1, a weight with the factor of its channel, so that a runtime that multiplies the three scales of a
product has that factor again, as a float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bittern.deploy.errors import ExportError
from bittern.deploy.kinds.integer.parts import factor_at
from bittern.deploy.kinds.integer.resize import ONE
from bittern.deploy.kinds.kind import integer, integers, number
from bittern.deploy.onnx.integers.graph import Graph
from bittern.deploy.program import Node
from bittern.ops.fixed_point import EXP_FRACTION_BITS, ONE_BITS
from bittern.ops.integer_add.reference import LEFT_SHIFT

Emit = Callable[[Graph, Node, list[str], str], object]
"""(graph, node, names of its inputs, name of its output)."""


def _limits(node: Node) -> dict[str, int]:
    return {"low": integer(node, "low"), "high": integer(node, "high")}


def _factors(g: Graph, node: Node) -> np.ndarray[Any, Any]:
    """Of each channel; a scale must be above 0, so that 0 is one that makes 0 of all that int32 holds."""
    multiplier, shift = (g.tensor(node, role).double() for role in ("multiplier", "shift"))
    found: np.ndarray[Any, Any] = (multiplier * 2.0 ** (shift - ONE_BITS)).clamp(min=2.0**-40).numpy()
    return found


def _pads(sides: list[int]) -> list[int]:
    """Rows and columns in front, then behind, of left, right, top, bottom."""
    left, right, top, bottom = sides
    return [top, left, bottom, right]


def _operands(g: Graph, node: Node, x: str, axis: int = 0) -> list[str]:
    """Input, weight and bias of a product; axis: where the weight has its output channels."""
    factors, weight = _factors(g, node), g.tensor(node, "weight")
    found = [g.real(x, 1.0, integer(node, "zero")), g.reals(weight.transpose(0, axis), factors, np.int8, axis)]
    return [*found, g.reals(g.tensor(node, "bias"), factors, np.int32)] if "bias" in node.tensors else found


def _conv(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    pads, stride, dilation = (integers(node, key) for key in ("padding", "stride", "dilation"))
    attrs: dict[str, Any] = {
        "pads": _pads(pads),
        "strides": stride,
        "dilations": dilation,
        "group": integer(node, "groups"),
    }
    y = g.add("Conv", _operands(g, node, inputs[0]), **attrs)
    g.integers(y, integer(node, "out_zero"), output, **_limits(node))


def _linear(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    y = g.add("Gemm", _operands(g, node, inputs[0]), transB=1)
    g.integers(y, integer(node, "out_zero"), output, **_limits(node))


def _transposed(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    stride, before, size = (integers(node, key) for key in ("stride", "before", "size"))
    kernel = g.tensor(node, "weight").shape[2:]
    rows = zip(g.shape(node.inputs[0])[2:], stride, kernel, before, size, strict=True)
    behind = [(n - 1) * s + k - b - y for n, s, k, b, y in rows]
    beyond = [max(-n, 0) for n in behind]
    if any(more >= s for more, s in zip(beyond, stride, strict=True)):
        raise ExportError(f"to_onnx: node {node.name!r} is larger than its windows reach, which ONNX does not have")
    pads = [*before, *(max(n, 0) for n in behind)]
    operands = _operands(g, node, inputs[0], axis=1)
    y = g.add("ConvTranspose", operands, pads=pads, strides=stride, output_padding=beyond)
    g.integers(y, integer(node, "out_zero"), output, **_limits(node))


def _sum(operator: str) -> Emit:
    """Each with the product of its factor and that of the result for a scale."""

    def emit(g: Graph, node: Node, inputs: list[str], output: str) -> None:
        own = factor_at(node).value * 2.0**LEFT_SHIFT
        parts = [
            g.real(x, factor_at(node, prefix).value * own, integer(node, zero))
            for x, prefix, zero in zip(inputs, ("a_", "b_"), ("zero_a", "zero_b"), strict=True)
        ]
        g.integers(g.add(operator, parts), integer(node, "out_zero"), output, **_limits(node))

    return emit


def _multiply(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    scales, zeros = (1.0, factor_at(node).value), ("zero_a", "zero_b")
    parts = [g.real(x, scale, integer(node, zero)) for x, scale, zero in zip(inputs, scales, zeros, strict=True)]
    g.integers(g.add("Mul", parts), integer(node, "out_zero"), output, **_limits(node))


def _extreme(operator: str) -> Emit:
    return lambda g, node, inputs, output: g.integers(g.add(operator, [g.real(x, 1.0, 0) for x in inputs]), 0, output)


def _pool(operator: str, **more: int) -> Emit:
    def emit(g: Graph, node: Node, inputs: list[str], output: str) -> None:
        kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
        attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": _pads(padding), **more}
        g.integers(g.add(operator, [g.real(inputs[0], 1.0, 0)], **attrs), 0, output, **_limits(node))

    return emit


def _mean(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    x = g.real(inputs[0], factor_at(node).value, integer(node, "zero"))
    axes = g.constant(integers(node, "dims"), np.int64)
    y = g.add("ReduceSum", [x, axes], keepdims=int(bool(node.attrs["keep"])))
    g.integers(y, integer(node, "out_zero"), output, **_limits(node))


def _softmax(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    scale = factor_at(node).value / 2.0**EXP_FRACTION_BITS
    g.integers(g.add("Softmax", [g.real(inputs[0], scale, 0)], axis=-1), -128, output, scale=1 / 256)


def _matmul(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    scales, zeros = (1.0, factor_at(node).value), ("zero_a", "zero_b")
    parts = [g.real(x, scale, integer(node, zero)) for x, scale, zero in zip(inputs, scales, zeros, strict=True)]
    g.integers(g.add("MatMul", parts), integer(node, "out_zero"), output, **_limits(node))


def _resize(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    """Rows and columns that are gathered, and their shares; Resize of ONNX finds places of its own."""
    x = g.real(inputs[0], 1.0, 0)
    for dim, role in ((2, "rows"), (3, "columns")):
        first, share = g.tensor(node, role).numpy().T
        last = g.shape(node.inputs[0])[dim] - 1
        parts = []
        for at, part in ((first, ONE - share), (np.minimum(first + 1, last), share)):
            neighbour = g.add("Gather", [x, g.constant(at, np.int64)], axis=dim)
            shares = g.constant((part / ONE).reshape(-1, *(1,) * (3 - dim)), np.float32)
            parts.append(g.add("Mul", [neighbour, shares]))
        x = g.add("Add", parts)
    g.integers(x, 0, output)


def _table(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    """Looked up, so that no rounding is left to a runtime."""
    g.add("Gather", [g.constant(g.tensor(node, "table").numpy(), np.int8), _entries(g, inputs[0])], output)


def _tables(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    tables, dims = g.tensor(node, "tables"), len(g.shape(node.inputs[0]))
    first = 256 * np.arange(len(tables)).reshape(-1, *(1,) * (dims - 2))
    bytes_ = g.forms[node.inputs[0]].type == "uint8"
    entries = g.add("Cast", [inputs[0]], to=6) if bytes_ else _entries(g, inputs[0])  # int32
    place = g.add("Add", [entries, g.constant(first, np.int32)])
    g.add("Gather", [g.constant(tables.flatten().numpy(), np.int8), place], output)


def _entries(g: Graph, x: str) -> str:
    """x + 128, as places in a table."""
    whole = g.add("Cast", [x], to=6)  # int32
    return g.add("Add", [whole, g.constant(128, np.int32)])


def _quantize(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    g.integers(inputs[0], integer(node, "zero"), output, scale=number(node, "scale"))


def _dequantize(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    scale, zero = g.constant(number(node, "scale"), np.float32), g.constant(integer(node, "zero"), np.int8)
    g.add("DequantizeLinear", [inputs[0], scale, zero], output)


def _requantize(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    x = g.real(inputs[0], factor_at(node).value, integer(node, "zero"))
    g.integers(x, integer(node, "out_zero"), output)


# -- operators of torch ---------------------------------------------------------------------------------------------


def _moved(g: Graph, node: Node, inputs: list[str], output: str) -> None:
    """Operators that copy numbers."""
    operator, arguments = str(node.attrs["operator"]), node.attrs["arguments"]
    assert isinstance(arguments, list)
    emit = MOVES.get(operator)
    if emit is None:
        raise ExportError(f"to_onnx: node {node.name!r} ({operator}) has no form among integers in ONNX")
    emit(g, node, inputs, output, arguments)


Move = Callable[[Graph, Node, list[str], str, list[Any]], object]


def _shape(g: Graph, node: Node, inputs: list[str], output: str, arguments: list[Any]) -> None:
    shape = [-1, *g.shape(node.output)[1:]]
    g.add("Reshape", [inputs[0], g.constant(shape, np.int64)], output)


def _pad(g: Graph, node: Node, inputs: list[str], output: str, arguments: list[Any]) -> None:
    amount, dims = arguments[1], len(g.shape(node.inputs[0]))
    sides = [[0] * (dims - len(amount) // 2) + amount[side::2][::-1] for side in (0, 1)]
    fill = arguments[2] if len(arguments) > 2 else 0
    g.add("Pad", [inputs[0], g.constant([*sides[0], *sides[1]], np.int64), g.constant(fill, np.int8)], output)


def _slice(g: Graph, node: Node, inputs: list[str], output: str, arguments: list[Any]) -> None:
    given = [*arguments[1:], *[0, 0, None, 1][len(arguments) - 1 :]]
    values = (given[1] or 0, given[2] if given[2] is not None else 2**31 - 1, given[0], given[3])
    g.add("Slice", [inputs[0], *(g.constant([value], np.int64) for value in values)], output)


def _repeat(g: Graph, node: Node, inputs: list[str], output: str, arguments: list[Any]) -> None:
    times, dim = arguments[1:3]
    places = np.repeat(np.arange(g.shape(node.inputs[0])[dim]), times)
    g.add("Gather", [inputs[0], g.constant(places, np.int64)], output, axis=dim)


MOVES: dict[str, Move] = {
    "permute.default": lambda g, node, inputs, output, a: g.add("Transpose", inputs, output, perm=a[1]),
    "cat.default": lambda g, node, inputs, output, a: g.add("Concat", inputs, output, axis=a[1]),
    "reshape.default": _shape,
    "constant_pad_nd.default": _pad,
    "slice.Tensor": _slice,
    "repeat_interleave.self_int": _repeat,
}

NODES: dict[str, Emit] = {
    "integer_conv": _conv,
    "integer_linear": _linear,
    "integer_transposed_conv": _transposed,
    "integer_matmul": _matmul,
    "integer_resize": _resize,
    "integer_add": _sum("Add"),
    "integer_subtract": _sum("Sub"),
    "integer_multiply": _multiply,
    "integer_maximum": _extreme("Max"),
    "integer_minimum": _extreme("Min"),
    "integer_average": _pool("AveragePool", count_include_pad=0),
    "integer_max": _pool("MaxPool"),
    "integer_mean": _mean,
    "integer_softmax": _softmax,
    "integer_table": _table,
    "integer_tables": _tables,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "requantize": _requantize,
    "aten": _moved,
}
"""By kind."""
