# SPDX-License-Identifier: Apache-2.0
"""Node kinds that move real values about or combine them: pools, means, shapes, slices, sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.deploy.kinds.kind import (
    Kind,
    Step,
    any_shape,
    channels_last,
    choice,
    contiguous,
    count,
    flag,
    integer,
    integers,
    number,
    real,
    sizes,
)
from bittern.deploy.program import Node

Tensors = Mapping[str, Tensor]


def _build_pool(
    node: Node, tensors: Tensors, device: torch.device, arrange: Callable[[Tensor], Tensor] = contiguous
) -> Step:
    kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
    flat = len(kernel) == 1
    ceil, inside = bool(node.attrs["ceil"]), bool(node.attrs["count_padding"])
    if node.attrs["mode"] == "max":
        pool = F.max_pool1d if flat else F.max_pool2d
        return lambda x: pool(arrange(x), kernel, stride, padding, ceil_mode=ceil)
    average = F.avg_pool1d if flat else F.avg_pool2d
    return lambda x: average(arrange(x), kernel, stride, padding, ceil, inside)


POOL = Kind(
    "pool",
    (1,),
    {
        "mode": choice("max", "average"),
        "kernel": sizes(1, 2, least=1, default=[2, 2]),
        "stride": sizes(1, 2, least=1, default=[2, 2]),
        "padding": sizes(1, 2, default=[0, 0]),
        "ceil": flag(default=False),
        "count_padding": flag(default=True),
    },
    {},
    {},
    any_shape,
    _build_pool,
    partial(_build_pool, arrange=channels_last),
)


def _build_adaptive_pool(node: Node, tensors: Tensors, device: torch.device) -> Step:
    size = integers(node, "size")
    pool = F.adaptive_avg_pool1d if len(size) == 1 else F.adaptive_avg_pool2d
    return lambda x: pool(contiguous(x), size)  # type: ignore[arg-type]


ADAPTIVE_POOL = Kind(
    "adaptive_pool", (1,), {"size": sizes(1, 2, least=1, default=[1, 1])}, {}, {}, any_shape, _build_adaptive_pool
)


def _build_mean(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dims, keep = integers(node, "dims"), bool(node.attrs["keep"])
    return lambda x: contiguous(x).mean(dims, keepdim=keep)


MEAN = Kind(
    "mean",
    (1,),
    {"dims": sizes(1, 2, 3, least=-4, most=3), "keep": flag(default=False)},
    {},
    {},
    any_shape,
    _build_mean,
)


def _build_flatten(node: Node, tensors: Tensors, device: torch.device) -> Step:
    start, end = integer(node, "start"), integer(node, "end")
    return lambda x: x.flatten(start, end)


FLATTEN = Kind(
    "flatten",
    (1,),
    {"start": count(-5, 4, default=1), "end": count(-5, 4, default=-1)},
    {},
    {},
    any_shape,
    _build_flatten,
)


def _build_reshape(node: Node, tensors: Tensors, device: torch.device) -> Step:
    shape = integers(node, "shape")
    return lambda x: x.reshape(shape)


RESHAPE = Kind(
    "reshape", (1,), {"shape": sizes(1, 2, 3, 4, 5, least=-1, most=2**24)}, {}, {}, any_shape, _build_reshape
)


def _build_permute(node: Node, tensors: Tensors, device: torch.device) -> Step:
    order = integers(node, "order")
    return lambda x: x.permute(order)


PERMUTE = Kind("permute", (1,), {"order": sizes(2, 3, 4, 5, least=0, most=4)}, {}, {}, any_shape, _build_permute)


def _build_pad(node: Node, tensors: Tensors, device: torch.device) -> Step:
    amount, value = integers(node, "amount"), number(node, "value")
    return lambda x: F.pad(x, amount, value=value)


PAD = Kind("pad", (1,), {"amount": sizes(2, 4, 6, 8), "value": real(default=0.0)}, {}, {}, any_shape, _build_pad)


def _build_slice(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dim, start, step = (integer(node, key) for key in ("dim", "start", "step"))
    stop = node.attrs.get("stop")
    index = (*(slice(None),) * dim, slice(start, stop, step))
    return lambda x: x[index]


SLICE = Kind(
    "slice",
    (1,),
    {"dim": count(1, 4), "start": count(0), "stop": count(0, optional=True), "step": count(1)},
    {},
    {},
    any_shape,
    _build_slice,
)


def _build_constant(node: Node, tensors: Tensors, device: torch.device) -> Step:
    if node.attrs["operation"] == "add":
        return lambda x: x + number(node, "value")
    return lambda x: x * number(node, "value")


CONSTANT = Kind(
    "constant",
    (1,),
    {"operation": choice("add", "multiply"), "value": real()},
    {},
    {},
    any_shape,
    _build_constant,
)


def _build_concatenate(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dim = integer(node, "dim")
    return lambda *parts: torch.cat(parts, dim)


CONCATENATE = Kind("concatenate", (-1,), {"dim": count(-4, 4, default=1)}, {}, {}, any_shape, _build_concatenate)

ADD = Kind("add", (2,), {}, {}, {}, any_shape, lambda node, tensors, device: torch.add)
SUBTRACT = Kind("subtract", (2,), {}, {}, {}, any_shape, lambda node, tensors, device: torch.sub)
MULTIPLY = Kind("multiply", (2,), {}, {}, {}, any_shape, lambda node, tensors, device: torch.mul)

LAYOUT_KINDS: tuple[Kind, ...] = (
    POOL,
    ADAPTIVE_POOL,
    MEAN,
    FLATTEN,
    RESHAPE,
    PERMUTE,
    PAD,
    SLICE,
    CONSTANT,
    CONCATENATE,
    ADD,
    SUBTRACT,
    MULTIPLY,
)
