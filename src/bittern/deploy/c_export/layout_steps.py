# SPDX-License-Identifier: Apache-2.0
"""C code of the node kinds of `kinds.layout`, and of `factors`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bittern.deploy.c_export import layout_code as code
from bittern.deploy.c_export.elementwise import ADD_CONSTANT, MULTIPLY_CONSTANT
from bittern.deploy.c_export.plan import Step
from bittern.deploy.c_export.source import Fields, Source, value
from bittern.deploy.c_export.views import broadcast_steps, four, steps_of
from bittern.deploy.c_export.window import WINDOW, window
from bittern.deploy.kinds.channel_scales import channel_scale_shapes
from bittern.deploy.kinds.kind import integer, integers, number, pair
from bittern.deploy.program import Node


def _four(c: Source, node: Node, role: str, numbers: Sequence[int], fill: int) -> str:
    """Name of an array of four sizes or steps; `numbers` are those behind the batch."""
    return c.integers(node, role, four(node, numbers, fill))


def two(c: Source, step: Step) -> str:
    """add, subtract, multiply."""
    node = step.node
    a, b = (c.forms[v].shape for v in node.inputs)
    shape = c.forms[node.output].shape
    left, right, y = value(node.inputs[0]), value(node.inputs[1]), value(node.output)
    if a == b:
        return c.call(code.SAME_SIZE[node.kind], left, right, math.prod(shape), y)
    size = _four(c, node, "size", shape[1:], 1)
    a_step = _four(c, node, "a_step", broadcast_steps(a, shape)[1:], 0)
    b_step = _four(c, node, "b_step", broadcast_steps(b, shape)[1:], 0)
    return c.call(code.BROADCAST[node.kind], size, left, a_step, right, b_step, y)


def constant(c: Source, step: Step) -> str:
    node = step.node
    function = ADD_CONSTANT if node.attrs["operation"] == "add" else MULTIPLY_CONSTANT
    count = math.prod(c.forms[node.output].shape)
    return c.call(function, value(node.inputs[0]), count, c.real(number(node, "value")), value(node.output))


def factors(c: Source, step: Step) -> str:
    node = step.node
    shape = c.forms[node.output].shape
    shapes = channel_scale_shapes(node)
    parts = torch.split(c.tensor(node, "factors"), [math.prod(s) for s in shapes])
    fields: list[Fields] = []
    for index, (part, own) in enumerate(zip(parts, shapes, strict=True)):
        steps = four(node, broadcast_steps(own, shape)[1:], 0)
        fields.append([c.floats(node, f"factor_{index}", part), steps])
    table = c.record(node, code.FACTORS, "bt_factor", fields, len(fields))
    size = _four(c, node, "size", shape[1:], 1)
    return c.call(code.FACTORS, size, table, len(fields), value(node.inputs[0]), value(node.output))


def copied(
    c: Source,
    node: Node,
    part: int,
    size: Sequence[int],
    x_step: Sequence[int],
    y_step: Sequence[int],
    x_at: int = 0,
    y_at: int = 0,
) -> str:
    """A call that copies input number `part`; sizes and steps without the batch."""
    arrays = [
        _four(c, node, f"size_{part}", size, 1),
        _four(c, node, f"x_step_{part}", x_step, 0),
        _four(c, node, f"y_step_{part}", y_step, 0),
    ]
    x = value(node.inputs[part]) + (f" + {x_at}" if x_at else "")
    y = value(node.output) + (f" + {y_at}" if y_at else "")
    return c.call(code.COPY[c.forms[node.output].type], arrays[0], x, arrays[1], y, arrays[2])


def permuted(c: Source, node: Node, order: Sequence[int]) -> str:
    """A copy whose dimension d is dimension order[d] of the input."""
    steps = steps_of(c.forms[node.inputs[0]].shape)
    shape = c.forms[node.output].shape
    return copied(c, node, 0, shape[1:], [steps[d] for d in order][1:], steps_of(shape)[1:])


def padded(c: Source, node: Node, amount: Sequence[int], number: str | int) -> str:
    """A copy with so many numbers around it, as F.pad has them."""
    form = c.forms[node.output]
    x, y = c.forms[node.inputs[0]].shape, form.shape
    steps = steps_of(y)
    before = sum(amount[2 * i] * steps[-1 - i] for i in range(len(amount) // 2))
    fill = c.call(code.FILL[form.type], value(node.output), math.prod(y), number)
    return "\n".join([fill, copied(c, node, 0, x[1:], steps_of(x)[1:], steps[1:], y_at=before)])


def joined(c: Source, node: Node, dim: int) -> str:
    """The inputs behind each other along a dimension."""
    y = c.forms[node.output].shape
    dim, steps, at, calls = dim % len(y), steps_of(y), 0, []
    for part, v in enumerate(node.inputs):
        x = c.forms[v].shape
        calls.append(copied(c, node, part, x[1:], steps_of(x)[1:], steps[1:], y_at=at))
        at += x[dim] * steps[dim]
    return "\n".join(calls)


def permute(c: Source, step: Step) -> str:
    return permuted(c, step.node, integers(step.node, "order"))


def slice_(c: Source, step: Step) -> str:
    node = step.node
    x, y = c.forms[node.inputs[0]].shape, c.forms[node.output].shape
    dim, start = integer(node, "dim"), integer(node, "start")
    steps = steps_of(x)
    strided = [s * (integer(node, "step") if d == dim else 1) for d, s in enumerate(steps)]
    return copied(c, node, 0, y[1:], strided[1:], steps_of(y)[1:], x_at=start * steps[dim])


def pad(c: Source, step: Step) -> str:
    return padded(c, step.node, integers(step.node, "amount"), c.real(number(step.node, "value")))


def concatenate(c: Source, step: Step) -> str:
    return joined(c, step.node, integer(step.node, "dim"))


def pool(c: Source, step: Step) -> str:
    node = step.node
    x, y = c.forms[node.inputs[0]], c.forms[node.output]
    fields = window(node, x, y, integers(node, "kernel"), dilated=False)
    name = c.record(node, WINDOW, WINDOW.name, fields)
    ends = (value(node.inputs[0]), value(node.output))
    if node.attrs["mode"] == "max":
        return c.call(code.MAX_POOL, name, x.shape[1], *ends)
    return c.call(code.AVERAGE_POOL, name, x.shape[1], int(bool(node.attrs["count_padding"])), *ends)


def adaptive_pool(c: Source, step: Step) -> str:
    node = step.node
    x, y = c.forms[node.inputs[0]].shape, c.forms[node.output].shape
    sizes = (*pair(x[2:], 1), *pair(y[2:], 1))
    return c.call(code.ADAPTIVE_POOL, value(node.inputs[0]), x[1], *sizes, value(node.output))


def mean(c: Source, step: Step) -> str:
    node = step.node
    x = c.forms[node.inputs[0]].shape
    gone = {d % len(x) for d in integers(node, "dims")}
    kept = _four(c, node, "kept", [1 if d in gone else n for d, n in enumerate(x)][1:], 1)
    left_out = _four(c, node, "gone", [n if d in gone else 1 for d, n in enumerate(x)][1:], 1)
    steps = _four(c, node, "step", steps_of(x)[1:], 0)
    return c.call(code.MEAN, kept, left_out, steps, value(node.inputs[0]), value(node.output))
