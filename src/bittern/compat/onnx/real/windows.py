# SPDX-License-Identifier: Apache-2.0
"""Convolutions, pools and resizing of ONNX as layers of torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bittern.compat.onnx.file import Operator, UnreadError
from bittern.compat.onnx.real.reader import Reader
from bittern.compat.real_network import MeanOfImage, Pad, Resize

CONVS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}
"""By dimensions of space."""


def filled(layer: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A layer with these numbers."""
    if weight.dtype != torch.float32 or tuple(layer.weight.shape) != tuple(weight.shape):
        raise UnreadError(f"its weight must be float32 {list(layer.weight.shape)}; got {list(weight.shape)}")
    if (bias is None) != (layer.bias is None) or (bias is not None and bias.shape != layer.bias.shape):
        raise UnreadError("its bias must have a number for each output")
    layer.weight = nn.Parameter(weight.contiguous().clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.contiguous().clone())
    return layer  # type: ignore[no-any-return]


def weight_of(reader: Reader, operator: Operator) -> tuple[Tensor, Tensor | None]:
    weight = reader.constant(operator, 1)
    if weight is None:
        raise UnreadError("it needs a weight")
    return weight, reader.constant(operator, 2)


def _list(operator: Operator, key: str, dims: int, fill: int) -> list[int]:
    given = operator.attrs.get(key) or [fill] * dims
    if len(given) != dims or min(given) < 0:
        raise UnreadError(f"its {key} must be {dims} numbers; got {given}")
    return [int(n) for n in given]


def _sides(
    reader: Reader, operator: Operator, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """(in front, behind) along each dimension of space."""
    dims, auto = len(kernel), operator.attrs.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID", ""):
        pads = _list(operator, "pads", 2 * dims, 0)
        return list(zip(pads[:dims], pads[dims:], strict=True))
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise UnreadError(f"its auto_pad is {auto!r}")
    found = []
    for size, k, s, d in zip(reader.shape(operator)[2:], kernel, stride, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0)
        small, large = total // 2, total - total // 2
        found.append((small, large) if auto == "SAME_UPPER" else (large, small))
    return found


def _amount(sides: Sequence[tuple[int, int]]) -> list[int]:
    """As F.pad has it: the last dimension first."""
    return [n for side in reversed(sides) for n in side]


def conv(reader: Reader, operator: Operator) -> int:
    weight, bias = weight_of(reader, operator)
    dims, groups = weight.ndim - 2, operator.attrs.get("group", 1)
    if dims not in CONVS or groups < 1 or weight.shape[0] % groups:
        raise UnreadError(f"its weight {list(weight.shape)} in {groups} groups is none over 1 or 2 dimensions")
    stride, dilation = (_list(operator, key, dims, 1) for key in ("strides", "dilations"))
    sides = _sides(reader, operator, weight.shape[2:], stride, dilation)
    value, padding = reader.value(operator), [front for front, _ in sides]
    if any(front != behind for front, behind in sides):
        value, padding = reader.add(Pad(_amount(sides)), "padding", (value,)), [0] * dims
    layer = CONVS[dims](
        weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), tuple(stride), tuple(padding),
        tuple(dilation), groups, bias is not None,
    )  # fmt: skip
    return reader.add(filled(layer, weight, bias), operator.outputs[0], (value,))


def transposed(reader: Reader, operator: Operator) -> int:
    weight, bias = weight_of(reader, operator)
    dims, groups = weight.ndim - 2, operator.attrs.get("group", 1)
    if dims not in TRANSPOSED or groups < 1 or operator.attrs.get("output_shape"):
        raise UnreadError("it must be over 1 or 2 dimensions, with its padding as numbers")
    stride, dilation = (_list(operator, key, dims, 1) for key in ("strides", "dilations"))
    more = _list(operator, "output_padding", dims, 0)
    if operator.attrs.get("auto_pad", "NOTSET") != "NOTSET":
        raise UnreadError("its padding must be written as numbers")
    pads = _list(operator, "pads", 2 * dims, 0)
    sides = list(zip(pads[:dims], pads[dims:], strict=True))
    even = all(front == behind for front, behind in sides)
    layer = TRANSPOSED[dims](
        weight.shape[0], weight.shape[1] * groups, tuple(weight.shape[2:]), tuple(stride),
        tuple(pads[:dims]) if even else 0, tuple(more), groups, bias is not None, tuple(dilation),
    )  # fmt: skip
    value = reader.add(filled(layer, weight, bias), operator.outputs[0], (reader.value(operator),))
    return value if even else reader.add(Pad([-n for n in _amount(sides)]), "cut", (value,))


def max_pool(reader: Reader, operator: Operator) -> int:
    kernel, stride, sides, dilation = _pool(reader, operator)
    if operator.attrs.get("storage_order", 0):
        raise UnreadError("it must be of row-major order")
    layers = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
    value, ceil = reader.value(operator), bool(operator.attrs.get("ceil_mode", 0))
    padding = [front for front, _ in sides]
    if any(front != behind for front, behind in sides):
        value = reader.add(Pad(_amount(sides), torch.finfo(torch.float32).min), "padding", (value,))
        padding = [0] * len(kernel)
    layer: Any = layers[len(kernel)]
    made = layer(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), ceil_mode=ceil)
    return reader.add(made, operator.outputs[0], (value,))


def average_pool(reader: Reader, operator: Operator) -> int:
    kernel, stride, sides, dilation = _pool(reader, operator)
    counted, ceil = bool(operator.attrs.get("count_include_pad", 0)), bool(operator.attrs.get("ceil_mode", 0))
    if set(dilation) != {1}:
        raise UnreadError("its windows must have no gaps")
    layers: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d}
    value = reader.value(operator)
    if all(front == behind for front, behind in sides):
        padding = tuple(front for front, _ in sides)
        made = layers[len(kernel)](tuple(kernel), tuple(stride), padding, ceil, counted)
        return reader.add(made, operator.outputs[0], (value,))
    if ceil or len(kernel) != 2:
        raise UnreadError("its padding must be the same on both sides")
    if counted:
        value = reader.add(Pad(_amount(sides)), "padding", (value,))
        return reader.add(layers[2](tuple(kernel), tuple(stride)), operator.outputs[0], (value,))
    amount, size = _amount(sides), reader.shape(operator)[2:]
    ones = torch.nn.functional.pad(torch.ones(1, 1, *size), amount)
    counts = torch.nn.functional.avg_pool2d(ones, tuple(kernel), tuple(stride), divisor_override=1)
    return reader.add(MeanOfImage(kernel, stride, amount, 1 / counts), operator.outputs[0], (value,))


def _pool(reader: Reader, operator: Operator) -> tuple[list[int], list[int], list[tuple[int, int]], list[int]]:
    """Kernel, stride, sides and dilation."""
    kernel = operator.attrs.get("kernel_shape") or []
    if len(kernel) not in (1, 2) or min(kernel) < 1 or len(operator.outputs) != 1:
        raise UnreadError("it must have windows over 1 or 2 dimensions, and one result")
    stride, dilation = (_list(operator, key, len(kernel), 1) for key in ("strides", "dilations"))
    return list(kernel), stride, _sides(reader, operator, kernel, stride, dilation), dilation


def pad(reader: Reader, operator: Operator) -> int:
    dims = len(reader.shape(operator))
    pads = reader.whole_numbers(operator, 1, "pads")
    fill = reader.constant(operator, 2)
    value = float(operator.attrs.get("value", 0.0)) if fill is None else float(fill.flatten()[0])
    if operator.attrs.get("mode", "constant") != "constant" or pads is None or len(pads) != 2 * dims:
        raise UnreadError(f"it must pad {dims} dimensions with a number")
    sides = list(zip(pads[:dims], pads[dims:], strict=True))
    if any(sides[0]) or len(operator.inputs) > 3:
        raise UnreadError("it must leave the batch alone")
    while len(sides) > 1 and sides[1] == (0, 0):
        del sides[1]
    return reader.add(Pad(_amount(sides[1:]), value), operator.outputs[0], (reader.value(operator),))


CORNERS = {"half_pixel": "half", "pytorch_half_pixel": "half", "align_corners": "aligned", "asymmetric": "first"}
WAYS = {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("pytorch_half_pixel", "round_prefer_floor")}
"""To find the nearest pixel, all of which repeat each as often where sizes are multiples."""


def resize(reader: Reader, operator: Operator) -> int:
    """Resize and Upsample of images: bilinear, or the nearest pixel by whole factors."""
    before = reader.shape(operator)
    size = _size(reader, operator, before)
    old = operator.name == "Upsample" or len(operator.inputs) == 2
    way = "asymmetric" if old else operator.attrs.get("coordinate_transformation_mode", "half_pixel")
    mode = operator.attrs.get("mode", "nearest")
    one = any(n == 1 for n in size)  # where pytorch_half_pixel is another one
    if len(before) != 4 or operator.attrs.get("exclude_outside", 0) or operator.attrs.get("antialias", 0):
        raise UnreadError("it must resize images, and count no neighbours out")
    if mode == "linear" and way in CORNERS and not (way == "pytorch_half_pixel" and one):
        return reader.add(Resize(size, CORNERS[way]), operator.outputs[0], (reader.value(operator),))
    rounds = "floor" if old else operator.attrs.get("nearest_mode", "round_prefer_floor")
    whole = all(n % b == 0 for b, n in zip(before[2:], size, strict=True))
    if mode != "nearest" or (way, rounds) not in WAYS or not whole:
        raise UnreadError(f"it must be bilinear, or repeat pixels a whole number of times; got {mode}, {way}, {rounds}")
    factors = tuple(float(n // b) for b, n in zip(before[2:], size, strict=True))
    return reader.add(nn.Upsample(scale_factor=factors), operator.outputs[0], (reader.value(operator),))


def _size(reader: Reader, operator: Operator, before: Sequence[int]) -> list[int]:
    sizes = reader.whole_numbers(operator, 3, "sizes")
    if sizes is None:
        found = reader.constant(operator, 1 if len(operator.inputs) == 2 else 2)
        scales = operator.attrs.get("scales") if found is None else [float(n) for n in found.flatten().tolist()]
        if not scales or len(scales) != len(before):
            raise UnreadError("it needs a scale or a size for each dimension")
        sizes = [int(n * scale) for n, scale in zip(before, scales, strict=True)]
    if len(sizes) != len(before) or list(sizes[:2]) != list(before[:2]) or min(sizes) < 1:
        raise UnreadError(f"it must change height and width alone; it makes {sizes} of {list(before)}")
    return list(sizes[2:])
