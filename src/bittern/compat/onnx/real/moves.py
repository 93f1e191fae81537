# SPDX-License-Identifier: Apache-2.0
"""Operators that only move numbers about: what they do to numbers of the file, or to places."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bittern.compat.onnx.file import Operator, UnreadError
from bittern.compat.onnx.real.reader import Reader

Move = Callable[[Reader, Operator, Tensor], list[Tensor]]
"""(reader, operator, its first input) -> its results."""


def _axis(axis: int, dims: int) -> int:
    if not -dims <= axis < dims:
        raise UnreadError(f"dimension {axis} of {dims}")
    return axis % dims


def _axes(reader: Reader, operator: Operator, place: int) -> list[int] | None:
    return reader.whole_numbers(operator, place, "axes")


def _reshape(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    """0 takes the size that is there, unless the file says that it is a 0."""
    sizes = reader.whole_numbers(operator, 1, "shape")
    if sizes is None:
        raise UnreadError("it needs a shape")
    if not operator.attrs.get("allowzero", 0):
        sizes = [x.shape[dim] if size == 0 and dim < x.ndim else size for dim, size in enumerate(sizes)]
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or min(sizes, default=1) < -1 or known == 0 or x.numel() % known:
        raise UnreadError(f"it makes {sizes} of {list(x.shape)}")
    if -1 not in sizes and known != x.numel():
        raise UnreadError(f"it makes {sizes} of {list(x.shape)}")
    return [x.reshape(sizes)]


def _flatten(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    axis = operator.attrs.get("axis", 1)
    axis = axis if axis == x.ndim else _axis(axis, x.ndim)
    return [x.reshape(math.prod(x.shape[:axis]), -1)]


def _transpose(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    order = operator.attrs.get("perm") or list(reversed(range(x.ndim)))
    if sorted(order) != list(range(x.ndim)):
        raise UnreadError(f"it orders {x.ndim} dimensions as {order}")
    return [x.permute(order)]


def _squeeze(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    axes = _axes(reader, operator, 1)
    gone = [dim for dim, size in enumerate(x.shape) if size == 1] if axes is None else axes
    gone = [_axis(axis, x.ndim) for axis in gone]
    if any(x.shape[dim] != 1 for dim in gone):
        raise UnreadError(f"it takes dimensions {gone} of {list(x.shape)}, which are not 1")
    return [x.reshape([size for dim, size in enumerate(x.shape) if dim not in gone])]


def _unsqueeze(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    axes = _axes(reader, operator, 1)
    if axes is None:
        raise UnreadError("it needs axes")
    dims = x.ndim + len(axes)
    for axis in sorted(_axis(axis, dims) for axis in axes):
        x = x.unsqueeze(axis)
    return [x]


def _slice(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    lists = [reader.whole_numbers(operator, place, name) for place, name in enumerate(NAMES, 1)]
    starts, ends, axes, steps = lists
    if starts is None or ends is None:
        raise UnreadError("it needs starts and ends")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or min(steps, default=1) < 1:
        raise UnreadError("it must have as many starts, ends, axes and steps, and steps from 1 on")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = _axis(axis, x.ndim)
        x = x[(*(slice(None),) * axis, slice(start, end, step))]
    if not x.numel():
        raise UnreadError("it leaves nothing")
    return [x]


NAMES = ("starts", "ends", "axes", "steps")


def _split(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    axis, count = _axis(operator.attrs.get("axis", 0), x.ndim), len(operator.outputs)
    sizes = reader.whole_numbers(operator, 1, "split")
    if sizes is None:
        each = -(-x.shape[axis] // count)
        sizes = [min(each, x.shape[axis] - each * part) for part in range(count)]
    if len(sizes) != count or min(sizes) < 1 or sum(sizes) != x.shape[axis]:
        raise UnreadError(f"it splits {x.shape[axis]} into {sizes}, {count} results")
    return list(torch.split(x, sizes, axis))


def _gather(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    """At indices that the file has."""
    axis, indices = _axis(operator.attrs.get("axis", 0), x.ndim), reader.constant(operator, 1)
    if indices is None or indices.is_floating_point() or not indices.numel():
        raise UnreadError("its indices must be whole numbers of the file")
    size = x.shape[axis]
    if not -size <= int(indices.min()) <= int(indices.max()) < size:
        raise UnreadError(f"its indices leave {size} entries")
    found = x.index_select(axis, indices.flatten().long() % size)
    return [found.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])]


def _depth_to_space(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    """DCR: channels are (row, column, channel) of a block; CRD: (channel, row, column)."""
    block = operator.attrs.get("blocksize", 0)
    if x.ndim != 4 or block < 1 or x.shape[1] % block**2:
        raise UnreadError(f"it makes blocks of {block} of {list(x.shape)}")
    batch, channels, height, width = x.shape
    out = channels // block**2
    if operator.attrs.get("mode", "DCR") == "DCR":
        x = x.reshape(batch, block, block, out, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(batch, out, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    return [x.reshape(batch, out, height * block, width * block)]


def _same(reader: Reader, operator: Operator, x: Tensor) -> list[Tensor]:
    return [x]


MOVES: dict[str, Move] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "DepthToSpace": _depth_to_space,
    "Identity": _same,
    "Dropout": _same,
}
"""By the operator's name."""
