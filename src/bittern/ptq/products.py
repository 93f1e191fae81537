# SPDX-License-Identifier: Apache-2.0
"""Convolutions, transposed convolutions and linear layers as `integer_conv` and `integer_linear`.

weights: integers of a channel's own scale, symmetric about 0; bias: int32 of the scale input * weight; the factor of a
channel: input * weight / result, in fixed point (Jacob et al., arXiv:1712.05877, eq. 5 and section 2.4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bittern.deploy.kinds.integer.products import BYTE_BITS
from bittern.deploy.kinds.kind import IMAGE_DIMS, integer, integers, pair
from bittern.deploy.program import Node
from bittern.ops.fixed_point import factor_of, rounded_away
from bittern.ptq.fold import is_transposed, transposed_arguments
from bittern.ptq.grid import Grid
from bittern.ptq.rule import Forms, Rule
from bittern.ptq.steps import weight_limits
from bittern.ptq.writer import Weights, Writer

MOST_BIAS = 2**30
"""Integers of a bias, so that a sum has room beside it."""
MOST_SUM = 2**31


class Product(NamedTuple):
    """The numbers of a product, output channels first."""

    weight: Tensor
    bias: Tensor
    """[out]."""


def product_of(node: Node, tensors: Mapping[str, Tensor]) -> Product:
    """Weight [out, in / groups, ...] and bias; those of a transposed convolution turned into a convolution's."""
    named = node.named(tensors)
    if not is_transposed(node):
        return Product(named["weight"], named["bias"])
    given = transposed_arguments(node)
    assert given is not None
    weight, groups = named[given["weight"]["tensor"]], given["groups"]
    return Product(turned(weight, groups), named[given["bias"]["tensor"]])


def turned(weight: Tensor, groups: int) -> Tensor:
    """Weight [in, out / groups, *kernel] of a transposed convolution as [out, in / groups, *kernel] of a plain one."""
    grouped = weight.view(groups, -1, *weight.shape[1:]).transpose(1, 2)
    return grouped.reshape(-1, *grouped.shape[2:]).flip(*range(2, weight.ndim))


def turned_back(weight: Tensor, groups: int) -> Tensor:
    """The weight of a transposed convolution again."""
    grouped = weight.flip(*range(2, weight.ndim)).view(groups, -1, *weight.shape[1:]).transpose(1, 2)
    return grouped.reshape(-1, *grouped.shape[2:])


MakeSteps = Callable[..., Tensor]
"""(weight, bits=) -> the step of each output channel: `channel_steps`, `least_squares_channel_steps`, or a partial."""


def weight_scales(weight: Tensor, bits: int, per_channel: bool, steps: MakeSteps) -> Tensor:
    """float64 [out] of float32 numbers: a step for each channel, or one for all."""
    rows = weight.detach() if per_channel else weight.detach().reshape(1, -1)
    return steps(rows, bits=bits).double().expand(len(weight)).clone()


def usable_scales(product: Product, scales: Tensor, x: Grid, out: Grid) -> Tensor:
    """Scales large enough that the bias is an int32.

    A channel of zeros has any scale: the one at which its sums are those of the result. Where a bias is large beside
    its weights, the weights take a coarser scale: what they lose is less than a step of the result.
    """
    empty = product.weight.detach().flatten(1).abs().amax(1) == 0
    found = torch.where(empty, torch.full_like(scales, out.scale / x.scale), scales)
    found = torch.maximum(found, product.bias.detach().double().abs() / (x.scale * MOST_BIAS))
    return found.float().double()


def quantized(product: Product, scales: Tensor, x: Grid, bits: int) -> Weights:
    """A product in integers of these scales."""
    limits = weight_limits(bits)
    weight = product.weight.detach().double()
    shape = (-1, *(1,) * (weight.ndim - 1))
    rounded = rounded_away(weight / scales.view(shape)).clamp(limits.least, limits.most).to(torch.int8)
    bias = rounded_away(product.bias.detach().double() / (x.scale * scales))
    return Weights(rounded, scales, bias.clamp(-MOST_SUM, MOST_SUM - 1).int(), bits)


def check_sums(name: str, weights: Weights, x: Grid) -> None:
    """Refuse what int32 might not hold. Raises: ValueError with the bound."""
    reach = max(127 - x.zero, x.zero + 128)
    sums = weights.integers.long().flatten(1).abs().sum(1) * reach + weights.bias.long().abs()
    if int(sums.max()) >= MOST_SUM:
        raise ValueError(
            f"quantize: layer {name!r}: its sums may reach {int(sums.max())}, and int32 holds less than 2^31; give its "
            f"weights fewer bits, or leave it float with keep=[{name!r}]"
        )


def factor_tensors(weights: Weights, x: Grid, out: Grid) -> dict[str, Tensor | None]:
    """Tensors of an integer product."""
    factors = [factor_of(x.scale * scale / out.scale) for scale in weights.scales.tolist()]
    multiplier, shift = (torch.tensor(part, dtype=torch.int32) for part in zip(*factors, strict=True))
    return {"weight": weights.integers, "bias": weights.bias, "multiplier": multiplier, "shift": shift}


def _common(writer: Writer, node: Node, x: Grid, out: Grid) -> tuple[dict[str, Tensor | None], dict[str, Any]]:
    weights = writer.weights[node.name]
    check_sums(node.name, weights, x)
    attrs = {"zero": x.zero, "out_zero": out.zero, "once": True, **writer.ends(out)}
    if weights.bits < BYTE_BITS:
        attrs["weight_bits"] = weights.bits
    return factor_tensors(weights, x, out), attrs


def _conv(writer: Writer, node: Node, value: int, out: Grid) -> int:
    (source,) = node.inputs
    tensors, attrs = _common(writer, node, writer.grids[source], out)
    geometry = {key: pair(integers(node, key), 1) for key in ("stride", "dilation")}
    up, left = pair(integers(node, "padding"), 0)
    before, after = writer.shape(source), writer.shape(node.output)
    flat = len(before) < IMAGE_DIMS
    x = writer.integer(source)
    if flat:
        x = writer.reshaped(node, x, before, (1, before[1], 1, before[2]))
        weight = tensors["weight"]
        assert weight is not None
        tensors["weight"] = weight.unsqueeze(2)
    y = writer.add(
        "integer_conv",
        node,
        (x,),
        tensors,
        **attrs,
        **geometry,
        padding=[left, left, up, up],
        groups=integer(node, "groups"),
    )
    return writer.reshaped(node, y, (1, after[1], 1, after[2]), after) if flat else y


def _linear(writer: Writer, node: Node, value: int, out: Grid) -> int:
    """Rows of samples; several rows a sample are the pixels of a convolution of one tap."""
    (source,) = node.inputs
    tensors, attrs = _common(writer, node, writer.grids[source], out)
    before, after = writer.shape(source), writer.shape(node.output)
    x = writer.integer(source)
    if len(before) == 2:
        return writer.add("integer_linear", node, (x,), tensors, **attrs)
    rows = 1
    for size in before[1:-1]:
        rows *= size
    weight = tensors["weight"]
    assert weight is not None
    tensors["weight"] = weight.view(*weight.shape, 1, 1)
    x = writer.reshaped(node, x, before, (1, rows, before[-1]))
    x = writer.moved("permute.default", node, (x,), 3, [0, 2, 1])
    x = writer.reshaped(node, x, (1, before[-1], rows), (1, before[-1], rows, 1))
    y = writer.add(
        "integer_conv", node, (x,), tensors, **attrs, stride=[1, 1], padding=[0] * 4, dilation=[1, 1], groups=1
    )
    y = writer.reshaped(node, y, (1, after[-1], rows, 1), (1, after[-1], rows))
    y = writer.moved("permute.default", node, (y,), 3, [0, 2, 1])
    return writer.reshaped(node, y, (1, rows, after[-1]), after)


def _transposed_problem(forms: Forms, tensors: Mapping[str, Tensor], node: Node) -> str | None:
    return None if transposed_arguments(node) else "its weight is computed"


def _transposed(writer: Writer, node: Node, value: int, out: Grid) -> int:
    """A convolution of stride 1 over its input with zeros between neighbours, with the kernel turned round.

    The zeros are the zero point, so that they add nothing.
    """
    (source,) = node.inputs
    given = transposed_arguments(node)
    assert given is not None
    grid = writer.grids[source]
    tensors, attrs = _common(writer, node, grid, out)
    weight = tensors["weight"]
    assert weight is not None
    dims = weight.ndim - 2
    before, after = writer.shape(source), writer.shape(node.output)
    numbers = {key: pair(_each(given[key], dims), 0 if "padding" in key else 1) for key in GEOMETRY}
    tensors["weight"] = weight = weight.view(*weight.shape[:2], *pair(weight.shape[2:], 1))
    size = pair(before[2:], 1)
    x = writer.reshaped(node, writer.integer(source), before, (1, before[1], *size))
    x = _spread(writer, node, x, (before[1], *size), numbers["stride"], grid.zero)
    reach = [d * (k - 1) for d, k in zip(numbers["dilation"], weight.shape[2:], strict=True)]
    sides: list[int] = []
    for dim in (1, 0):
        margin = reach[dim] - numbers["padding"][dim]
        sides += [margin, margin + numbers["output_padding"][dim] - (numbers["stride"][dim] - 1)]
    if min(sides) < 0:
        space = [n * s for n, s in zip(size, numbers["stride"], strict=True)]
        x = _cut(writer, node, x, space, sides)
    y = writer.add(
        "integer_conv",
        node,
        (x,),
        tensors,
        **attrs,
        stride=[1, 1],
        padding=[max(side, 0) for side in sides],
        dilation=numbers["dilation"],
        groups=given["groups"],
    )
    return writer.reshaped(node, y, (1, after[1], *pair(after[2:], 1)), after)


GEOMETRY = ("stride", "padding", "output_padding", "dilation")


def _each(value: Any, dims: int) -> list[int]:
    """A number for each dimension."""
    values = [value] if isinstance(value, int) else list(value)
    return values * dims if len(values) == 1 else values


def _spread(writer: Writer, node: Node, x: int, shape: tuple[int, ...], stride: list[int], zero: int) -> int:
    """An image with stride - 1 zeros behind each number, along both dimensions."""
    channels, height, width = shape
    down, right = stride
    if (down, right) == (1, 1):
        return x
    x = writer.reshaped(node, x, (1, channels, height, width), (1, channels, height, 1, width, 1))
    x = writer.moved("constant_pad_nd.default", node, (x,), 6, [0, right - 1, 0, 0, 0, down - 1], zero)
    spread = (1, channels, height, down, width, right)
    return writer.reshaped(node, x, spread, (1, channels, height * down, width * right))


def _cut(writer: Writer, node: Node, x: int, space: list[int], sides: list[int]) -> int:
    """An image without the numbers that negative sides (left, right, top, bottom) take away."""
    left, right, top, bottom = (max(-side, 0) for side in sides)
    for dim, first, last in ((2, top, bottom), (3, left, right)):
        if first or last:
            stop = space[dim - 2] - last
            x = writer.moved("slice.Tensor", node, (x,), IMAGE_DIMS, dim, first, stop, 1)
    return x


PRODUCT_RULES = {
    "conv": Rule(write=_conv, leads=True, takes_limits=True),
    "linear": Rule(write=_linear, leads=True, takes_limits=True),
    "aten conv_transpose1d.default": Rule(
        write=_transposed, problem=_transposed_problem, leads=True, takes_limits=True
    ),
    "aten conv_transpose2d.input": Rule(write=_transposed, problem=_transposed_problem, leads=True, takes_limits=True),
}
