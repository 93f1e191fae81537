# SPDX-License-Identifier: Apache-2.0
"""Operators that move numbers about and compute nothing, of integers and of real numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bittern.compat.tflite.build import AnyBuilder, UnsupportedError
from bittern.compat.tflite.file import Operator, Value
from bittern.compat.tflite.operators.common import NONE, need_one_scale, options, whole_numbers

CHANNELS_FIRST_DIM = (0, 2, 3, 1)
"""Where a dimension of a file's image lies with channels first."""


def _ends(builder: AnyBuilder, operator: Operator, place: int | None = None) -> tuple[int, Value, Value]:
    """(the place of what is moved, it, its result), of one scale and type."""
    place = operator.inputs[0] if place is None else place
    x, out = (builder.movable(builder.value(p)) for p in (place, operator.outputs[0]))
    need_one_scale(x, out)
    return place, x, out


def _axis(axis: int, dims: int) -> int:
    """A dimension, counted from the front. Raises: UnsupportedError for the batch."""
    if not -dims <= axis < dims or axis % dims == 0:
        raise UnsupportedError(f"it must work along a dimension other than the batch; got {axis} of {dims}")
    return axis % dims


def reshape(builder: AnyBuilder, operator: Operator) -> None:
    """RESHAPE, SQUEEZE, EXPAND_DIMS, which keep samples apart."""
    place, x, out = _ends(builder, operator)
    if x.shape[0] != 1 or not out.shape or out.shape[0] != 1 or math.prod(x.shape) != math.prod(out.shape):
        raise UnsupportedError(f"it must keep the batch of 1 first; it makes {list(out.shape)} of {list(x.shape)}")
    pixel = builder.is_image(place) and x.shape[1:3] == (1, 1)  # whose numbers lie in the same order
    value = builder.reshaped(out.name, builder.taken(place, image=pixel), len(x.shape), out.shape[1:])
    builder.wrote(operator, value, image=False)


def pad(builder: AnyBuilder, operator: Operator) -> None:
    """PAD with zeros, which are the zero point."""
    place, x, out = _ends(builder, operator)
    dims, amounts = len(x.shape), builder.value(operator.inputs[1])
    numbers = whole_numbers(amounts)
    if tuple(amounts.shape) != (dims, 2) or any(numbers[:2]) or min(numbers) < 0:
        raise UnsupportedError(
            f"its amounts must be two numbers from 0 on for each dimension, none of them along the batch; got {numbers}"
        )
    sides = {dim: numbers[2 * dim : 2 * dim + 2] for dim in range(dims)}
    image = builder.is_image(place)
    if image:
        sides = {CHANNELS_FIRST_DIM[dim]: side for dim, side in sides.items()}
    amount = [number for dim in range(dims - 1, 0, -1) for number in sides[dim]]
    value = builder.padded(out.name, builder.taken(place, image=image), dims, amount, builder.nothing(x))
    builder.wrote(operator, value, image=image)


def concatenate(builder: AnyBuilder, operator: Operator) -> None:
    """CONCATENATION of tensors of one scale."""
    values = [builder.movable(builder.value(place)) for place in operator.inputs]
    out = builder.movable(builder.value(operator.outputs[0]))
    need_one_scale(*values, out)
    given, dims = options(operator), len(out.shape)
    if given.number(1, "b") != NONE or len(values) < 2 or any(value.constant is not None for value in values):
        raise UnsupportedError("it must join two or more computed tensors, without an activation")
    axis, image = _axis(given.number(0, "i"), dims), builder.all_images(operator.inputs)
    inputs = [builder.taken(place, image=image) for place in operator.inputs]
    value = builder.joined(out.name, inputs, dims, CHANNELS_FIRST_DIM[axis] if image else axis)
    builder.wrote(operator, value, image=image)


def transpose(builder: AnyBuilder, operator: Operator) -> None:
    """TRANSPOSE, which keeps the batch first."""
    place, x, out = _ends(builder, operator)
    order = whole_numbers(builder.value(operator.inputs[1]))
    if sorted(order) != list(range(len(x.shape))) or order[0] != 0:
        raise UnsupportedError(f"it must order the dimensions behind the batch; got {order}")
    builder.wrote(operator, builder.permuted(out.name, builder.as_filed(place), order), image=False)


def slice_(builder: AnyBuilder, operator: Operator) -> None:
    """SLICE: begins and sizes, -1 for all that is left."""
    place, x, out = _ends(builder, operator)
    begins, counts = (whole_numbers(builder.value(p)) for p in operator.inputs[1:])
    if len(begins) != len(x.shape) or len(counts) != len(x.shape):
        raise UnsupportedError(f"it must have a begin and a size for each of {len(x.shape)} dimensions")
    rows = zip(begins, counts, x.shape, strict=True)
    parts = [slice(begin, size if count == -1 else begin + count, 1) for begin, count, size in rows]
    _cut(builder, operator, place, parts, out)


def strided_slice(builder: AnyBuilder, operator: Operator) -> None:
    """STRIDED_SLICE with steps above 0; a dimension of which one entry is taken may go."""
    place, x, out = _ends(builder, operator)
    begins, ends, steps = (whole_numbers(builder.value(p)) for p in operator.inputs[1:])
    given, dims = options(operator), len(x.shape)
    begin_mask, end_mask, ellipsis, new_axis, shrink = (given.number(field, "i") for field in range(5))
    if ellipsis or new_axis or {len(begins), len(ends), len(steps)} != {dims} or min(steps) < 1:
        raise UnsupportedError("it must have a begin, an end and a step above 0 for each dimension, and no new ones")
    parts = []
    for dim, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        size, bit = x.shape[dim], 1 << dim
        start = 0 if begin_mask & bit else min(max(begin + size if begin < 0 else begin, 0), size)
        stop = size if end_mask & bit else min(max(end + size if end < 0 else end, 0), size)
        parts.append(slice(start, start + 1 if shrink & bit else stop, step))
    _cut(builder, operator, place, parts, out)


def split(builder: AnyBuilder, operator: Operator) -> None:
    """SPLIT into equal parts."""
    place, x, _ = _ends(builder, operator, operator.inputs[1])
    (axis,) = whole_numbers(builder.value(operator.inputs[0]))
    axis, count = _axis(axis, len(x.shape)), len(operator.outputs)
    outs = [builder.movable(builder.value(p)) for p in operator.outputs]
    need_one_scale(x, *outs)
    if x.shape[axis] % count:
        raise UnsupportedError(f"it must cut {x.shape[axis]} into {count} equal parts")
    size = x.shape[axis] // count
    for result, out in enumerate(outs):
        parts = [slice(0, n, 1) for n in x.shape]
        parts[axis] = slice(result * size, (result + 1) * size, 1)
        _cut(builder, operator, place, parts, out, result)


def _cut(
    builder: AnyBuilder, operator: Operator, place: int, parts: Sequence[slice], out: Value, result: int = 0
) -> None:
    """What lies in a stretch along each dimension, in the shape of the result."""
    shape = builder.value(place).shape
    found = tuple(len(range(*part.indices(size))) for part, size in zip(parts, shape, strict=True))
    inside = all(0 <= part.start < part.stop <= size for part, size in zip(parts, shape, strict=True))
    if not inside or found[0] != 1 or out.shape[:1] != (1,) or math.prod(found) != math.prod(out.shape):
        raise UnsupportedError(
            f"it must cut {list(out.shape)} out of {list(shape)}, the batch whole; got {list(found)}"
        )
    image = builder.is_image(place) and found == out.shape
    value = builder.taken(place, image=image)
    for dim, (part, size) in enumerate(zip(parts, shape, strict=True)):
        if (part.start, part.stop, part.step) != (0, size, 1):
            own = CHANNELS_FIRST_DIM[dim] if image else dim
            value = builder.sliced(out.name, value, len(shape), own, part)
    if found != out.shape:
        value = builder.reshaped(out.name, value, len(shape), out.shape[1:])
    builder.wrote(operator, value, image=image, result=result)


def resize_nearest(builder: AnyBuilder, operator: Operator) -> None:
    """RESIZE_NEAREST_NEIGHBOR by whole factors: each pixel so many times."""
    place, x, out = _ends(builder, operator)
    if operator.options is not None and operator.options.number(0, "?", False):
        raise UnsupportedError("its corners must not be aligned")
    sizes = zip(x.shape[1:3], out.shape[1:3], strict=True)
    if len(x.shape) != 4 or any(after % before for before, after in sizes):
        raise UnsupportedError(f"it must enlarge an image by whole factors; it makes {out.shape} of {x.shape}")
    value = builder.image(place)
    for dim in (1, 2):
        times = out.shape[dim] // x.shape[dim]
        value = builder.repeated(out.name, value, 4, dim + 1, times) if times > 1 else value
    builder.wrote(operator, value, image=True)


def depth_to_space(builder: AnyBuilder, operator: Operator) -> None:
    """DEPTH_TO_SPACE: each pixel becomes a block of pixels, its channels (row, column, channel of the result)."""
    place, x, out = _ends(builder, operator)
    block = _block(x, out, operator)
    height, width, channels = x.shape[1:]
    value = builder.reshaped(out.name, builder.as_filed(place), 4, (height, width, block, channels // block))
    value = builder.permuted(out.name, value, [0, 1, 3, 2, 4])
    builder.wrote(operator, builder.reshaped(out.name, value, 5, out.shape[1:]), image=False)


def space_to_depth(builder: AnyBuilder, operator: Operator) -> None:
    """SPACE_TO_DEPTH: each block of pixels becomes one."""
    place, x, out = _ends(builder, operator)
    block = _block(out, x, operator)
    height, width, channels = out.shape[1:]
    value = builder.reshaped(out.name, builder.as_filed(place), 4, (height, block, width, channels // block))
    value = builder.permuted(out.name, value, [0, 1, 3, 2, 4])
    builder.wrote(operator, builder.reshaped(out.name, value, 5, out.shape[1:]), image=False)


def _block(small: Value, large: Value, operator: Operator) -> int:
    """The side of a block, by which one image is smaller and deeper than the other."""
    block = int(options(operator).number(0, "i"))
    fits = block > 0 and len(small.shape) == len(large.shape) == 4
    if not fits or large.shape[1:] != (small.shape[1] * block, small.shape[2] * block, small.shape[3] // block**2):
        raise UnsupportedError(f"blocks of {block} do not make {list(large.shape)} of {list(small.shape)}, or back")
    return block
