# SPDX-License-Identifier: Apache-2.0
"""Pools and means as `integer_max` and `integer_average`, whose result has the grid of what they read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from bittern.deploy.kinds.kind import IMAGE_DIMS, integers, pair
from bittern.deploy.program import Node
from bittern.ptq.grid import Grid
from bittern.ptq.rule import Forms, Rule
from bittern.ptq.writer import Writer

MOST_WINDOW = 2**15


def _pool(writer: Writer, node: Node, value: int, out: Grid) -> int:
    """A window that reaches beyond the padding, as those of `ceil` may, counts nothing there."""
    (source,) = node.inputs
    kernel, stride, padding = (
        pair(integers(node, key), fill) for key, fill in (("kernel", 1), ("stride", 1), ("padding", 0))
    )
    before, after = writer.shape(source), writer.shape(node.output)
    size, positions = pair(before[2:], 1), pair(after[2:], 1)
    image = (1, before[1], *size)
    x = writer.reshaped(node, writer.integer(source), before, image)
    average = node.attrs["mode"] == "average"
    if average and node.attrs["count_padding"] and any(padding):
        amount = [padding[1], padding[1], padding[0], padding[0]]
        x = writer.moved("constant_pad_nd.default", node, (x,), IMAGE_DIMS, amount, out.zero)
        size, padding = [n + 2 * p for n, p in zip(size, padding, strict=True)], [0, 0]
    behind = [
        max((n - 1) * s + k - whole - p, 0)
        for n, s, k, whole, p in zip(positions, stride, kernel, size, padding, strict=True)
    ]
    kind = "integer_average" if average else "integer_max"
    y = writer.add(
        kind,
        node,
        (x,),
        None,
        kernel=kernel,
        stride=stride,
        padding=[padding[1], behind[1], padding[0], behind[0]],
        **writer.ends(out),
    )
    return writer.reshaped(node, y, (1, after[1], *positions), after)


def _adaptive_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    before, size = forms[node.inputs[0]].shape[2:], integers(node, "size")
    uneven = any(n % s for n, s in zip(before, size, strict=True))
    return f"its windows over {list(before)} are of different sizes" if uneven else None


def _adaptive(writer: Writer, node: Node, value: int, out: Grid) -> int:
    (source,) = node.inputs
    before, after = writer.shape(source), writer.shape(node.output)
    size, positions = pair(before[2:], 1), pair(after[2:], 1)
    window = [n // p for n, p in zip(size, positions, strict=True)]
    x = writer.reshaped(node, writer.integer(source), before, (1, before[1], *size))
    y = writer.add(
        "integer_average", node, (x,), None, kernel=window, stride=window, padding=[0] * 4, **writer.ends(out)
    )
    return writer.reshaped(node, y, (1, after[1], *positions), after)


def _mean_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    shape = forms[node.inputs[0]].shape
    count = math.prod(shape[dim] for dim in integers(node, "dims"))
    return None if count < MOST_WINDOW else f"it is the mean of {count} numbers"


def _mean(writer: Writer, node: Node, value: int, out: Grid) -> int:
    """The dimensions that go, last, are the rows of one window."""
    (source,) = node.inputs
    shape = writer.shape(source)
    gone = sorted(dim % len(shape) for dim in integers(node, "dims"))
    order = [*(dim for dim in range(len(shape)) if dim not in gone), *gone]
    x = _permuted(writer, node, writer.integer(source), order)
    kept, count = math.prod(shape[dim] for dim in order[1 : -len(gone)]), math.prod(shape[dim] for dim in gone)
    x = writer.reshaped(node, x, [shape[dim] for dim in order], (1, kept, count, 1))
    window = [count, 1]
    y = writer.add(
        "integer_average", node, (x,), None, kernel=window, stride=window, padding=[0] * 4, **writer.ends(out)
    )
    return writer.reshaped(node, y, (1, kept, 1, 1), writer.shape(node.output))


def _permuted(writer: Writer, node: Node, x: int, order: Sequence[int]) -> int:
    in_order = list(order) == list(range(len(order)))
    return x if in_order else writer.moved("permute.default", node, (x,), len(order), list(order))


POOL_RULES = {
    "pool": Rule(write=_pool, keeps_scale=True, takes_limits=True),
    "adaptive_pool": Rule(write=_adaptive, problem=_adaptive_problem, keeps_scale=True, takes_limits=True),
    "mean": Rule(write=_mean, problem=_mean_problem, keeps_scale=True, takes_limits=True),
}
