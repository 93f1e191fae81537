# SPDX-License-Identifier: Apache-2.0
"""Transposed convolutions of int8: each number of the input adds a window of weights to the sums.

sum[o, i * stride + k - before] += w[c, o, k] (x[c, i] - zero_x); what falls beyond the result is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.parts import SUM_BYTES, ending, int8_form, need_int8
from bittern.deploy.kinds.integer.products import FACTORS, ZEROS, check_products, loaded
from bittern.deploy.kinds.kind import IMAGE_DIMS, Kind, Step, integer, integers, sizes
from bittern.deploy.program import Node


def _whole(node: Node, weight: Tensor, x: Sequence[int]) -> tuple[int, int]:
    """Height and width of all that is added to."""
    rows = zip(x[2:], integers(node, "stride"), weight.shape[2:], strict=True)
    height, width = ((size - 1) * stride + kernel for size, stride, kernel in rows)
    return height, width


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x, IMAGE_DIMS)
    weight = tensors["weight"]
    need(node, x.shape[1] == weight.shape[1], f"it takes {weight.shape[1]} channels; got {x.shape[1]}")
    whole = _whole(node, weight, x.shape)
    before, size = integers(node, "before"), integers(node, "size")
    fits = all(b < w for b, w in zip(before, whole, strict=True))
    need(node, fits, f"its result {size} from {before} must begin within {list(whole)}")
    return int8_form((1, weight.shape[0], *size))


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    weight, zero = tensors["weight"].to(device).double().transpose(0, 1).contiguous(), integer(node, "zero")
    stride, (top, left), (height, width) = (integers(node, key) for key in ("stride", "before", "size"))
    end = ending(node, tensors, device, 2)

    def step(x: Tensor) -> Tensor:
        whole = F.conv_transpose2d(x.double() - zero, weight, stride=stride)
        beyond = (top + height - whole.shape[2], left + width - whole.shape[3])
        padded = F.pad(whole, (0, max(beyond[1], 0), 0, max(beyond[0], 0)))
        return end(padded[:, :, top : top + height, left : left + width])

    return step


def _working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Images in float64, the windows that torch writes out, all sums, and some copies of the results."""
    (x,), weight = inputs, tensors["weight"]
    windows = weight.shape[0] * math.prod(weight.shape[2:]) * math.prod(x.shape[2:])
    whole = weight.shape[0] * math.prod(_whole(node, weight, x.shape))
    return SUM_BYTES * (2 * x.elements + windows + 2 * whole + 8 * form.elements)


TRANSPOSED_CONV = Kind(
    name="integer_transposed_conv",
    attrs={
        **ZEROS,
        "stride": sizes(2, least=1, default=[1, 1]),
        "before": sizes(2, default=[0, 0]),
        "size": sizes(2, least=1),
    },
    tensors={"weight": torch.int8, **FACTORS},
    optional={"bias": torch.int32},
    check=lambda node, tensors: check_products(node, tensors, IMAGE_DIMS),
    shape=_form,
    build=_build,
    low_bit=True,
    loaded=loaded,
    working=_working,
)
"""int8 [B, C, H, W] with weight [O, C, kh, kw]; `before`: rows and columns that are dropped in front; `size`: of the
result."""
