# SPDX-License-Identifier: Apache-2.0
"""Bilinear resizing of int8 images: four neighbours with shares in parts of 1,024, rounded once, halves away from zero.

As TensorFlow Lite's integer kernel (reference/resize_bilinear.h); where the pixels of a result lie is data of the node.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.parts import INT8, SUM_BYTES, int8_form, need_int8
from bittern.deploy.kinds.kind import IMAGE_DIMS, Kind, Step
from bittern.deploy.program import Node

ONE_BITS = 10
ONE = 2**ONE_BITS
"""A whole share."""
ROLES = ("rows", "columns")


def _check(node: Node, tensors: Tensors) -> None:
    for role in ROLES:
        places = tensors[role]
        fits = places.ndim == 2 and places.shape[1] == 2 and len(places) > 0
        if not fits or int(places.min()) < 0 or int(places[:, 1].max()) >= ONE:
            raise FormatError(
                f"node {node.name!r} ({node.kind}): {role} must be [n, 2], a pixel from 0 on and a share of the next "
                f"one below {ONE}"
            )


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x, IMAGE_DIMS)
    for role, size in zip(ROLES, x.shape[2:], strict=True):
        last = int(tensors[role][:, 0].max())
        need(node, last < size, f"its {role} read pixel {last} of {size}")
    return int8_form((*x.shape[:2], *(len(tensors[role]) for role in ROLES)))


def _between(x: Tensor, places: Tensor, dim: int) -> Tensor:
    """The sum of both neighbours along a dimension, in parts of `ONE`; behind the last pixel is the last one again."""
    first, share = places.unbind(1)
    share = share.view(-1, *(1,) * (x.ndim - 1 - dim))
    after = x.index_select(dim, (first + 1).clamp(max=x.shape[dim] - 1))
    found: Tensor = x.index_select(dim, first) * (ONE - share) + after * share
    return found


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    rows, columns = (tensors[role].to(device).long() for role in ROLES)
    half = 2 ** (2 * ONE_BITS - 1)

    def step(x: Tensor) -> Tensor:
        sums = _between(_between(x.int(), rows, 2), columns, 3)
        return torch.div(sums + torch.where(sums > 0, half, -half), 2 * half, rounding_mode="trunc").to(INT8)

    return step


def _working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Images in int64, and those whose rows alone are there."""
    (x,) = inputs
    half_way = x.shape[1] * form.shape[2] * x.shape[3]
    return SUM_BYTES * (x.elements + 5 * half_way + 6 * form.elements)


RESIZE = Kind(
    name="integer_resize",
    tensors=dict.fromkeys(ROLES, torch.int32),
    check=_check,
    shape=_form,
    build=_build,
    low_bit=True,
    working=_working,
)
"""rows, columns: int32 [size of the result, 2], the pixel in front of each of the result's and the share of the next
one, of 1,024."""
