# SPDX-License-Identifier: Apache-2.0
"""Pools, in the grid of what they read, and means, in a grid of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from bittern.deploy.kinds.integer.means import factor_of_mean
from bittern.deploy.kinds.kind import IMAGE_DIMS, integers, pair
from bittern.deploy.program import Node
from bittern.ptq.grid import Grid
from bittern.ptq.rule import Forms, Rule
from bittern.ptq.writer import Writer


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
    """The mean of each window: of whole images, or with the windows as dimensions of their own."""
    (source,) = node.inputs
    before, after = writer.shape(source), writer.shape(node.output)
    x = writer.integer(source)
    if set(after[2:]) == {1}:
        return _averaged(writer, node, x, before, list(range(2, len(before))), after, out)
    windows = [part for n, positions in zip(before[2:], after[2:], strict=True) for part in (positions, n // positions)]
    parted = (*before[:2], *windows)
    x = writer.reshaped(node, x, before, parted)
    return _averaged(writer, node, x, parted, list(range(3, len(parted), 2)), after, out)


def _mean(writer: Writer, node: Node, value: int, out: Grid) -> int:
    (source,) = node.inputs
    shape = writer.shape(source)
    dims = sorted(dim % len(shape) for dim in integers(node, "dims"))
    return _averaged(writer, node, writer.integer(source), shape, dims, writer.shape(node.output), out)


def _averaged(
    writer: Writer, node: Node, x: int, shape: Sequence[int], dims: list[int], after: tuple[int, ...], out: Grid
) -> int:
    """Means along dimensions, in a grid of their own: they lie nearer to each other than what they are the means of."""
    grid = writer.grids[node.inputs[0]]
    kept = tuple(size for dim, size in enumerate(shape) if dim not in dims)
    factor = factor_of_mean(grid.scale / out.scale, math.prod(shape[dim] for dim in dims))
    y = writer.add(
        "integer_mean",
        node,
        (x,),
        None,
        dims=dims,
        keep=False,
        zero=grid.zero,
        out_zero=out.zero,
        **factor._asdict(),
        **writer.ends(out),
    )
    return writer.reshaped(node, y, kept, after)


POOL_RULES = {
    "pool": Rule(write=_pool, keeps_scale=True, takes_limits=True),
    "adaptive_pool": Rule(write=_adaptive, problem=_adaptive_problem, takes_limits=True),
    "mean": Rule(write=_mean, takes_limits=True),
}
