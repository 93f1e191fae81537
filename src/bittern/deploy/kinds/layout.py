# SPDX-License-Identifier: Apache-2.0
"""Node kinds that move real values about: pools, means, shapes, slices, concatenations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.kind import (
    Kind,
    Step,
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
from bittern.deploy.kinds.shape_rules import pool_windows
from bittern.deploy.program import Node


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


def _pool_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    return Form((*x.shape[:2], *pool_windows(node, x, bool(node.attrs["ceil"]))))


POOL = Kind(
    name="pool",
    attrs={
        "mode": choice("max", "average"),
        "kernel": sizes(1, 2, least=1, default=[2, 2]),
        "stride": sizes(1, 2, least=1, default=[2, 2]),
        "padding": sizes(1, 2, default=[0, 0]),
        "ceil": flag(default=False),
        "count_padding": flag(default=True),
    },
    shape=_pool_form,
    build=_build_pool,
    build_last=partial(_build_pool, arrange=channels_last),
    finite=True,
)


def _build_adaptive_pool(node: Node, tensors: Tensors, device: torch.device) -> Step:
    size = integers(node, "size")
    pool = F.adaptive_avg_pool1d if len(size) == 1 else F.adaptive_avg_pool2d
    return lambda x: pool(contiguous(x), size)  # type: ignore[arg-type]


def _adaptive_pool_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    size = integers(node, "size")
    need(node, len(x.shape) == 2 + len(size), f"a pool over {list(x.shape)}")
    return Form((*x.shape[:2], *size))


ADAPTIVE_POOL = Kind(
    name="adaptive_pool",
    attrs={"size": sizes(1, 2, least=1, default=[1, 1])},
    shape=_adaptive_pool_form,
    build=_build_adaptive_pool,
)


def _build_mean(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dims, keep = integers(node, "dims"), bool(node.attrs["keep"])
    return lambda x: contiguous(x).mean(dims, keepdim=keep)


def _dims(node: Node, dims: list[int], rank: int) -> list[int]:
    need(node, all(-rank <= d < rank for d in dims), f"dimensions {dims} of {rank}")
    whole = [d % rank for d in dims]
    need(node, len(set(whole)) == len(whole) and 0 not in whole, f"dimensions {dims}: each once, never the batch")
    return whole


def _mean_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    dims = _dims(node, integers(node, "dims"), len(x.shape))
    if node.attrs["keep"]:
        return Form(tuple(1 if d in dims else n for d, n in enumerate(x.shape)))
    return Form(tuple(n for d, n in enumerate(x.shape) if d not in dims))


MEAN = Kind(
    name="mean",
    attrs={"dims": sizes(1, 2, 3, least=-4, most=3), "keep": flag(default=False)},
    shape=_mean_form,
    build=_build_mean,
)


def _build_flatten(node: Node, tensors: Tensors, device: torch.device) -> Step:
    start, end = integer(node, "start"), integer(node, "end")
    return lambda x: x.flatten(start, end)


def _flatten_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    start, end = integer(node, "start"), integer(node, "end")
    (first,) = _dims(node, [start], len(x.shape))
    (last,) = _dims(node, [end], len(x.shape))
    need(node, first <= last, f"dimensions {start} to {end}")
    product = math.prod(x.shape[first : last + 1])
    return Form((*x.shape[:first], product, *x.shape[last + 1 :]))


FLATTEN = Kind(
    name="flatten",
    attrs={"start": count(-5, 4, default=1), "end": count(-5, 4, default=-1)},
    shape=_flatten_form,
    build=_build_flatten,
    view=True,
    reshapes=True,
)


def _build_reshape(node: Node, tensors: Tensors, device: torch.device) -> Step:
    shape = integers(node, "shape")
    return lambda x: x.reshape(shape)


def _reshape_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    shape = integers(node, "shape")
    need(node, shape[0] == -1 and -1 not in shape[1:] and 0 not in shape, f"{shape} must be [-1, sizes...]")
    need(
        node, math.prod(x.shape[1:]) == math.prod(shape[1:]), f"{list(x.shape[1:])} has other elements than {shape[1:]}"
    )
    return Form((1, *shape[1:]))


RESHAPE = Kind(
    name="reshape",
    attrs={"shape": sizes(1, 2, 3, 4, 5, least=-1, most=2**24)},
    shape=_reshape_form,
    build=_build_reshape,
    view=True,
    reshapes=True,
)


def _build_permute(node: Node, tensors: Tensors, device: torch.device) -> Step:
    order = integers(node, "order")
    return lambda x: x.permute(order)


def _permute_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    order = integers(node, "order")
    need(node, sorted(order) == list(range(len(x.shape))) and order[0] == 0, f"order {order} of {list(x.shape)}")
    return Form(tuple(x.shape[d] for d in order))


PERMUTE = Kind(
    name="permute",
    attrs={"order": sizes(2, 3, 4, 5, least=0, most=4)},
    shape=_permute_form,
    build=_build_permute,
    view=True,
)


def _build_pad(node: Node, tensors: Tensors, device: torch.device) -> Step:
    amount, value = integers(node, "amount"), number(node, "value")
    return lambda x: F.pad(x, amount, value=value)


def _pad_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    amount = integers(node, "amount")
    shape = list(x.shape)
    need(node, len(amount) // 2 < len(shape), f"padding {amount} of {shape}; never the batch")
    for i in range(len(amount) // 2):
        shape[-1 - i] += amount[2 * i] + amount[2 * i + 1]
    return Form(tuple(shape))


PAD = Kind(
    name="pad",
    attrs={"amount": sizes(2, 4, 6, 8), "value": real(default=0.0)},
    shape=_pad_form,
    build=_build_pad,
)


def _build_slice(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dim, start, step = (integer(node, key) for key in ("dim", "start", "step"))
    stop = node.attrs.get("stop")
    index = (*(slice(None),) * dim, slice(start, stop, step))
    return lambda x: x[index]


def _slice_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    dim, start, step, stop = integer(node, "dim"), integer(node, "start"), integer(node, "step"), node.attrs.get("stop")
    need(node, dim < len(x.shape), f"dimension {dim} of {list(x.shape)}")
    assert stop is None or isinstance(stop, int)
    size = len(range(x.shape[dim])[start:stop:step])
    need(node, size > 0, "nothing is left")
    return Form((*x.shape[:dim], size, *x.shape[dim + 1 :]))


SLICE = Kind(
    name="slice",
    attrs={"dim": count(1, 4), "start": count(0), "stop": count(0, optional=True), "step": count(1)},
    shape=_slice_form,
    build=_build_slice,
    view=True,
)


def _build_concatenate(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dim = integer(node, "dim")
    return lambda *parts: torch.cat(parts, dim)


def _concatenate_form(node: Node, tensors: Tensors, *parts: Form) -> Form:
    for part in parts:
        need_real(node, part)
    (dim,) = _dims(node, [integer(node, "dim")], len(parts[0].shape))
    first = parts[0].shape
    for part in parts[1:]:
        same = len(part.shape) == len(first) and all(
            m == n for d, (m, n) in enumerate(zip(part.shape, first, strict=True)) if d != dim
        )
        need(node, same, f"{list(part.shape)} beside {list(first)}")
    return Form((*first[:dim], sum(part.shape[dim] for part in parts), *first[dim + 1 :]))


CONCATENATE = Kind(
    name="concatenate",
    inputs=(-1,),
    attrs={"dim": count(-4, 4, default=1)},
    shape=_concatenate_form,
    build=_build_concatenate,
    finite=True,
)


LAYOUT_KINDS: tuple[Kind, ...] = (
    POOL,
    ADAPTIVE_POOL,
    MEAN,
    FLATTEN,
    RESHAPE,
    PERMUTE,
    PAD,
    SLICE,
    CONCATENATE,
)
