# SPDX-License-Identifier: Apache-2.0
"""C code of the node kinds of `kinds.integer`, and of the operators of torch that move int8 values about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bittern.deploy.c_export import integer_code as code
from bittern.deploy.c_export import integer_image_code as image
from bittern.deploy.c_export import integer_more_code as more
from bittern.deploy.c_export.few_bits_code import packed, stored_bits
from bittern.deploy.c_export.layout_code import COPY
from bittern.deploy.c_export.layout_steps import copied, joined, padded, permuted
from bittern.deploy.c_export.plan import Step
from bittern.deploy.c_export.source import NULL, CFunction, Fields, Source, scratch, value
from bittern.deploy.c_export.views import broadcast_steps, four, steps_of
from bittern.deploy.errors import refused
from bittern.deploy.kinds.integer.products import BYTE_BITS
from bittern.deploy.kinds.kind import integer, integers, number
from bittern.deploy.program import Node


def _ends(node: Node) -> tuple[str, str]:
    return value(node.inputs[0]), value(node.output)


def _count(c: Source, node: Node) -> int:
    return math.prod(c.forms[node.output].shape)


def _limits(node: Node) -> tuple[int, int]:
    return integer(node, "low"), integer(node, "high")


def _window(c: Source, node: Node, kernel: Sequence[int], dilation: Sequence[int]) -> Fields:
    """Fields of `bt_window`; what lies behind an image follows from the size of the result."""
    x, y = (c.forms[v].shape for v in (node.inputs[0], node.output))
    left, _, top, _ = integers(node, "padding")
    return [*x[2:], *y[2:], list(kernel), integers(node, "stride"), [top, left], list(dilation)]


def _factors(c: Source, node: Node) -> Fields:
    """Fields of `bt_factors`."""
    bias = c.integers(node, "bias", c.tensor(node, "bias").tolist()) if "bias" in node.tensors else NULL
    arrays = [c.integers(node, role, c.tensor(node, role).tolist()) for role in ("multiplier", "shift")]
    return [bias, *arrays, int(bool(node.attrs["once"])), integer(node, "out_zero"), *_limits(node)]


def _records(c: Source, node: Node, function: CFunction, **records: tuple[str, Fields]) -> list[str]:
    """Addresses of several records of a node: role -> (type, fields)."""
    return [c.record(node, function, type_, fields, role=role) for role, (type_, fields) in records.items()]


def _weight(c: Source, node: Node) -> str:
    """Name of the array of a product's weight."""
    numbers, bits = c.tensor(node, "weight"), stored_bits(node)
    return c.int8s(node, "weight", numbers) if bits == BYTE_BITS else c.uint8s(node, "weight", packed(numbers, bits))


def conv(c: Source, step: Step) -> str:
    node = step.node
    out, group_in, *kernel = c.tensor(node, "weight").shape
    window, function = _window(c, node, kernel, integers(node, "dilation")), code.CONVS[stored_bits(node)]
    records = _records(c, node, function, window=("bt_window", window), factors=("bt_factors", _factors(c, node)))
    sizes = (group_in, out // integer(node, "groups"), out)
    return c.call(function, *records, *sizes, _weight(c, node), integer(node, "zero"), *_ends(node))


def linear(c: Source, step: Step) -> str:
    node = step.node
    (out, features), function = c.tensor(node, "weight").shape, code.LINEARS[stored_bits(node)]
    records = _records(c, node, function, factors=("bt_factors", _factors(c, node)))
    return c.call(function, *records, features, out, _weight(c, node), integer(node, "zero"), *_ends(node))


def _repeats(c: Source, node: Node) -> list[int]:
    """Places of the inputs that repeat themselves to the shape of the result."""
    return [place for place, v in enumerate(node.inputs) if c.forms[v].shape != c.forms[node.output].shape]


def memory_of_repeats(c: Source, step: Step) -> list[tuple[str, int]]:
    """An input that repeats itself is written out first."""
    return [("bytes", _count(c, step.node)) for _ in _repeats(c, step.node)]


def _of_one_shape(c: Source, step: Step) -> tuple[list[str], list[str]]:
    """(calls that write out what repeats itself, arguments: how many numbers, both inputs, the result)."""
    node, calls = step.node, []
    shape, given = c.forms[node.output].shape, [value(v) for v in node.inputs]
    for index, place in enumerate(_repeats(c, node)):
        sizes = [
            c.integers(node, f"{role}_{place}", four(node, numbers, fill))
            for role, numbers, fill in (
                ("size", shape[1:], 1),
                ("x_step", broadcast_steps(c.forms[node.inputs[place]].shape, shape)[1:], 0),
                ("y_step", steps_of(shape)[1:], 0),
            )
        ]
        calls.append(c.call(COPY["int8"], sizes[0], given[place], sizes[1], scratch(step, index), sizes[2]))
        given[place] = scratch(step, index)
    return calls, [str(_count(c, node)), *given, value(node.output)]


def add(c: Source, step: Step) -> str:
    """integer_add, integer_subtract."""
    node = step.node
    calls, ends = _of_one_shape(c, step)
    function = code.ADD if node.kind == "integer_add" else more.SUBTRACT
    scales: list[Fields] = [
        [integer(node, zero), integer(node, f"{prefix}multiplier"), integer(node, f"{prefix}shift")]
        for zero, prefix in (("zero_a", "a_"), ("zero_b", "b_"), ("out_zero", ""))
    ]
    table = c.record(node, function, "bt_scale", scales, len(scales))
    return "\n".join([*calls, c.call(function, table, *_limits(node), *ends)])


def multiply(c: Source, step: Step) -> str:
    node = step.node
    calls, ends = _of_one_shape(c, step)
    zeros = c.integers(node, "zeros", [integer(node, key) for key in ("zero_a", "zero_b", "out_zero")])
    factor = (integer(node, "multiplier"), integer(node, "shift"))
    return "\n".join([*calls, c.call(more.MULTIPLY, zeros, *factor, *_limits(node), *ends)])


def extreme(c: Source, step: Step) -> str:
    """integer_maximum, integer_minimum."""
    calls, ends = _of_one_shape(c, step)
    return "\n".join([*calls, c.call(more.EXTREME, int(step.node.kind == "integer_maximum"), *ends)])


def mean(c: Source, step: Step) -> str:
    node = step.node
    shape, dims = c.forms[node.inputs[0]].shape, integers(node, "dims")
    steps = steps_of(shape)
    fields: list[Any] = []
    for inside in (False, True):
        own = [dim for dim in range(1, len(shape)) if (dim in dims) == inside]
        fill = [0] * (_MEAN_DIMS - len(own))
        fields += [[1 for _ in fill] + [shape[dim] for dim in own], fill + [steps[dim] for dim in own]]
    fields += [integer(node, key) for key in ("zero", "multiplier", "shift", "out_zero", "low", "high")]
    return c.call(more.MEAN, c.record(node, more.MEAN, "bt_mean", fields), *_ends(node))


_MEAN_DIMS = 4


def transposed_conv(c: Source, step: Step) -> str:
    node = step.node
    weight = c.tensor(node, "weight")
    out, channels, *kernel = weight.shape
    x, size = c.forms[node.inputs[0]].shape, integers(node, "size")
    function = more.TRANSPOSED[stored_bits(node)]
    pairs = [list(x[2:]), size, list(kernel), integers(node, "stride"), integers(node, "before")]
    records = _records(
        c,
        node,
        function,
        window=("bt_transposed", [channels, out, *pairs]),
        factors=("bt_factors", _factors(c, node)),
    )
    return c.call(function, *records, _weight(c, node), integer(node, "zero"), *_ends(node))


def pool(c: Source, step: Step) -> str:
    """integer_average, integer_max."""
    node = step.node
    function = code.AVERAGE if node.kind == "integer_average" else code.MAX
    window = c.record(node, function, "bt_window", _window(c, node, integers(node, "kernel"), (1, 1)))
    return c.call(function, window, c.forms[node.output].shape[1], *_limits(node), *_ends(node))


def softmax(c: Source, step: Step) -> str:
    node = step.node
    factor = (integer(node, key) for key in ("multiplier", "shift", "least"))
    answers = c.forms[node.output].shape[-1]
    return c.call(code.SOFTMAX, _count(c, node) // answers, answers, *factor, *_ends(node))


def resize(c: Source, step: Step) -> str:
    node = step.node
    x, y = (list(c.forms[v].shape) for v in (node.inputs[0], node.output))
    sizes = [c.integers(node, role, size) for role, size in (("size", x[2:]), ("out_size", y[2:]))]
    places = [c.integers(node, role, c.tensor(node, role).flatten().tolist()) for role in ("rows", "columns")]
    return c.call(image.RESIZE, *sizes, *places, x[1], *_ends(node))


def matmul(c: Source, step: Step) -> str:
    node = step.node
    *before, rows, inner = c.forms[node.inputs[0]].shape
    size = c.integers(node, "size", [math.prod(before), rows, inner, c.forms[node.output].shape[-1]])
    factor = [c.integers(node, role, [integer(node, role)]) for role in ("multiplier", "shift")]
    fields: Fields = [NULL, *factor, int(bool(node.attrs["once"])), integer(node, "out_zero"), *_limits(node)]
    (factors,) = _records(c, node, image.MATMUL, factors=("bt_factors", fields))
    zeros = (integer(node, key) for key in ("zero_a", "zero_b"))
    return c.call(image.MATMUL, size, factors, *zeros, *map(value, node.inputs), value(node.output))


def table(c: Source, step: Step) -> str:
    node = step.node
    return c.call(code.TABLE, c.int8s(node, "table", c.tensor(node, "table")), _count(c, node), *_ends(node))


def tables(c: Source, step: Step) -> str:
    node = step.node
    numbers = c.tensor(node, "tables")
    sizes = (len(numbers), _count(c, node) // len(numbers))
    function = more.BYTE_TABLES if c.forms[node.inputs[0]].type == "uint8" else more.TABLES
    return c.call(function, c.int8s(node, "tables", numbers), *sizes, *_ends(node))


def quantize(c: Source, step: Step) -> str:
    node = step.node
    scale, zero = c.real(number(node, "scale")), integer(node, "zero")
    return c.call(code.QUANTIZE, scale, zero, _count(c, node), *_ends(node))


def dequantize(c: Source, step: Step) -> str:
    node = step.node
    scale, zero = c.real(number(node, "scale")), integer(node, "zero")
    return c.call(code.DEQUANTIZE, scale, zero, _count(c, node), *_ends(node))


def requantize(c: Source, step: Step) -> str:
    node = step.node
    factor = [integer(node, key) for key in ("zero", "multiplier", "shift", "out_zero")]
    return c.call(code.REQUANTIZE, *factor, _count(c, node), *_ends(node))


# -- operators of torch ----------------------------------------------------------------------------------------


def moved(c: Source, step: Step) -> str:
    """An operator of torch on int8 values that copies them."""
    node = step.node
    arguments = node.attrs["arguments"]
    assert isinstance(arguments, list)
    emit = MOVES.get(str(node.attrs["operator"]))
    if emit is None or any(c.forms[v].type != "int8" for v in (*node.inputs, node.output)):
        raise refused("to_c", node, f"({node.attrs['operator']}) has no C code; leave this layer out")
    given = arguments[0] if isinstance(arguments[0], list) else arguments[:1]
    in_order = all(
        isinstance(x, dict) and x.get("order") in (None, sorted(x["order"])) and set(x) == {"input", "order"}
        for x in given
    )
    if not in_order:
        raise refused("to_c", node, "reads its input in another order, for which there is no C code")
    return emit(c, node, arguments)


def _permute(c: Source, node: Node, arguments: list[Any]) -> str:
    return permuted(c, node, arguments[1])


def _reshape(c: Source, node: Node, arguments: list[Any]) -> str:
    return copied(c, node, 0, [_count(c, node)], [1], [1])


def _concatenate(c: Source, node: Node, arguments: list[Any]) -> str:
    return joined(c, node, arguments[1])


def _pad(c: Source, node: Node, arguments: list[Any]) -> str:
    if min(arguments[1]) < 0:
        raise refused("to_c", node, "cuts its input, for which there is no C code")
    return padded(c, node, arguments[1], arguments[2] if len(arguments) > 2 else 0)


def _slice(c: Source, node: Node, arguments: list[Any]) -> str:
    """Along one dimension; start and step are 0 and 1 where they are left out."""
    x, y = c.forms[node.inputs[0]].shape, c.forms[node.output].shape
    given: list[Any] = [*arguments[1:], *[0, 0, None, 1][len(arguments) - 1 :]]
    dim, start, step = given[0] % len(x), given[1] or 0, given[3]
    if dim == 0 or not 0 <= start < x[dim]:
        raise refused("to_c", node, "cuts the batch, or from the end, for which there is no C code")
    steps = steps_of(x)
    strided = [s * (step if d == dim else 1) for d, s in enumerate(steps)]
    return copied(c, node, 0, y[1:], strided[1:], steps_of(y)[1:], x_at=start * steps[dim])


def _select(c: Source, node: Node, arguments: list[Any]) -> str:
    """One entry along a dimension."""
    x = c.forms[node.inputs[0]].shape
    dim, index = arguments[1] % len(x), arguments[2]
    if dim == 0:
        raise refused("to_c", node, "takes one sample of the batch, for which there is no C code")
    steps = steps_of(x)
    kept = [*range(1, dim), *range(dim + 1, len(x))]
    y_steps = steps_of(c.forms[node.output].shape)[1:]
    at = index % x[dim] * steps[dim]
    return copied(c, node, 0, [x[d] for d in kept], [steps[d] for d in kept], y_steps, x_at=at)


def _repeat(c: Source, node: Node, arguments: list[Any]) -> str:
    """Each entry along a dimension so many times: [before, entries, times, behind] of numbers."""
    x = c.forms[node.inputs[0]].shape
    times, dim = arguments[1:3]
    if not isinstance(dim, int) or dim % len(x) == 0:
        raise refused("to_c", node, "repeats the batch, for which there is no C code")
    before, entries, behind = (math.prod(x[part]) for part in _around(dim % len(x)))
    size, read = [before, entries, times, behind], [entries * behind, behind, 0, 1]
    return copied(c, node, 0, size, read, [entries * times * behind, times * behind, behind, 1])


def _around(dim: int) -> tuple[slice, slice, slice]:
    """What lies before, along and behind a dimension."""
    return slice(1, dim), slice(dim, dim + 1), slice(dim + 1, None)


MOVES = {
    "permute.default": _permute,
    "reshape.default": _reshape,
    "cat.default": _concatenate,
    "constant_pad_nd.default": _pad,
    "slice.Tensor": _slice,
    "select.int": _select,
    **dict.fromkeys(("unsqueeze.default", "squeeze.dim", "squeeze.dims", "view.default"), _reshape),
    "repeat_interleave.self_int": _repeat,
}
"""By the name of the operator."""
