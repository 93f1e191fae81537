# SPDX-License-Identifier: Apache-2.0
"""The node kind `factors`: scales of a result along its channels and its space, multiplied on at run time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.footprint import FLOAT_BYTES, units
from bittern.deploy.kinds.kind import Kind, Step, integers, need_shape, sizes
from bittern.deploy.kinds.shape_rules import broadcast
from bittern.deploy.program import Node


def channel_scale_shapes(node: Node) -> list[tuple[int, ...]]:
    """Shapes of the factors that lie one after another in the tensor `factors`: rank, then sizes, each."""
    numbers, shapes = list(integers(node, "shapes")), []
    while numbers:
        rank = numbers.pop(0)
        if not 0 < rank <= min(4, len(numbers)):
            raise FormatError(f"node {node.name!r} (factors): shapes {integers(node, 'shapes')} are damaged")
        shapes.append(tuple(numbers[:rank]))
        del numbers[:rank]
    return shapes


def _check(node: Node, tensors: Tensors) -> None:
    total = sum(math.prod(shape) for shape in channel_scale_shapes(node))
    need_shape(node, "factors", tensors["factors"], (total,))


def channel_scale(node: Node, tensors: Tensors) -> Tensor:
    """The product of a node's factors, which broadcasts over its input."""
    shapes = channel_scale_shapes(node)
    parts = torch.split(tensors["factors"], [math.prod(shape) for shape in shapes])
    factors = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
    gamma = factors[0]
    for factor in factors[1:]:
        gamma = gamma * factor
    return gamma


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    gamma = channel_scale(node, tensors)
    if gamma.ndim == 4:  # the layout of what the low-bit layer writes
        gamma = gamma.contiguous(memory_format=torch.channels_last)
    return lambda y: y * gamma


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    for shape in channel_scale_shapes(node):
        need(node, broadcast(node, x.shape, shape) == x.shape, f"a factor {list(shape)}")
    return x


def _loaded(node: Node, tensors: Tensors, form: Form) -> int:
    """The product of the factors, which broadcasts over the form, and what a kernel reads of it."""
    shapes = channel_scale_shapes(node)
    rank = max(map(len, shapes))
    most = [max(shape[i - rank] for shape in shapes if len(shape) >= rank - i) for i in range(rank)]
    channels = most[-3] if rank > 2 else 1
    return 4 * FLOAT_BYTES * (math.prod(most) + math.prod(most) // channels * units(form.channels))


CHANNEL_SCALES = Kind(
    name="factors",
    attrs={"shapes": sizes(*range(2, 16), least=1, most=2**24)},
    tensors={"factors": torch.float32},
    check=_check,
    shape=_form,
    build=_build,
    finite=True,
    loaded=_loaded,
)
