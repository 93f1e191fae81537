# SPDX-License-Identifier: Apache-2.0
"""Convolutions and linear layers of int8: y = zero_y + M (sum w (x - zero_x) + bias), M a fixed-point factor a channel.

Jacob et al., arXiv:1712.05877, eq. 7; weights are symmetric (their zero point is 0), as the int8 specification of
TensorFlow Lite has them. A window that reaches beyond its image sees zero_x there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.parts import LEAST, LIMITS, MOST, SUM_BYTES, int8_form, limited, need_int8, zero_point
from bittern.deploy.kinds.kind import IMAGE_DIMS, Kind, Step, count, flag, integer, integers, need_shape, sizes
from bittern.deploy.kinds.shape_rules import window
from bittern.deploy.program import Node
from bittern.ops.fixed_point import scaled, scaled_once

FACTORS = {"multiplier": torch.int32, "shift": torch.int32}
ZEROS = {"zero": zero_point(), "out_zero": zero_point(), "once": flag(default=False), **LIMITS}
"""`once`: the factor rounds once (`scaled_once`), not twice (`scaled`)."""


def _check(node: Node, tensors: Tensors, dims: int) -> None:
    weight = tensors["weight"]
    if weight.ndim != dims or weight.numel() == 0:
        raise FormatError(f"node {node.name!r} ({node.kind}): weight must have {dims} dimensions, and numbers")
    for role in ("bias", "multiplier", "shift"):
        need_shape(node, role, tensors.get(role), (weight.shape[0],))
    if bool((tensors["multiplier"] < 0).any()) or not bool(
        ((tensors["shift"] >= -31) & (tensors["shift"] <= 30)).all()
    ):
        raise FormatError(
            f"node {node.name!r} ({node.kind}): its factors must not be negative, shifts lie in [-31, 30]"
        )
    _check_sums(node, tensors)


def _check_sums(node: Node, tensors: Tensors) -> None:
    """Refuse what int32 might not hold, for the inputs that int8 allows."""
    zero = integer(node, "zero")
    largest = max(MOST - zero, zero - LEAST)
    sums = tensors["weight"].flatten(1).long().abs().sum(1) * largest
    if "bias" in tensors:
        sums = sums + tensors["bias"].long().abs()
    if int(sums.max()) >= 2**31:
        raise FormatError(
            f"node {node.name!r} ({node.kind}): its sums may reach {int(sums.max())}, and int32 holds less than 2^31"
        )


def _ending(node: Node, tensors: Tensors, device: torch.device, space: int) -> Callable[[Tensor], Tensor]:
    """What becomes of sums [batch, channels, *space] in float64, which are whole numbers."""
    shape = (-1, *(1,) * space)
    multiplier, shift = (tensors[role].to(device).long().view(shape) for role in ("multiplier", "shift"))
    bias = tensors["bias"].to(device).long().view(shape) if "bias" in tensors else 0
    end, times = limited(node), scaled_once if node.attrs["once"] else scaled
    return lambda sums: end(times(sums.long() + bias, multiplier, shift))


def _build_conv(node: Node, tensors: Tensors, device: torch.device) -> Step:
    weight, zero, padding = tensors["weight"].to(device).double(), integer(node, "zero"), integers(node, "padding")
    stride, dilation, groups = integers(node, "stride"), integers(node, "dilation"), integer(node, "groups")
    end = _ending(node, tensors, device, 2)

    def step(x: Tensor) -> Tensor:
        centred = F.pad(x.double() - zero, padding)
        return end(F.conv2d(centred, weight, None, stride, 0, dilation, groups))

    return step


def _padded(node: Node, x: Form) -> tuple[int, int]:
    left, right, top, bottom = integers(node, "padding")
    return x.shape[2] + top + bottom, x.shape[3] + left + right


def _conv_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x, IMAGE_DIMS)
    out, per_group, *kernel = tensors["weight"].shape
    groups = integer(node, "groups")
    need(node, out % groups == 0 and x.shape[1] == per_group * groups, f"it takes {per_group * groups} channels")
    geometry = zip(_padded(node, x), kernel, integers(node, "stride"), integers(node, "dilation"), strict=True)
    return int8_form((1, out, *(window(node, size, k, s, 0, d) for size, k, s, d in geometry)))


def _loaded(node: Node, tensors: Tensors, form: Form) -> int:
    return 2 * SUM_BYTES * sum(tensor.numel() for tensor in tensors.values())


def _conv_working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Images in float64 and their windows, which torch writes out, and some copies of the sums."""
    (x,) = inputs
    windows = math.prod(tensors["weight"].shape[1:]) * integer(node, "groups") * math.prod(form.shape[2:])
    return SUM_BYTES * (3 * x.shape[1] * math.prod(_padded(node, x)) + windows + 6 * math.prod(form.shape))


CONV = Kind(
    name="integer_conv",
    attrs={
        **ZEROS,
        "stride": sizes(2, least=1, default=[1, 1]),
        "padding": sizes(4, default=[0, 0, 0, 0]),
        "dilation": sizes(2, least=1, default=[1, 1]),
        "groups": count(1, default=1),
    },
    tensors={"weight": torch.int8, **FACTORS},
    optional={"bias": torch.int32},
    check=lambda node, tensors: _check(node, tensors, IMAGE_DIMS),
    shape=_conv_form,
    build=_build_conv,
    low_bit=True,
    loaded=_loaded,
    working=_conv_working,
)
"""int8 [B, C, H, W] with weight [O, C / groups, kh, kw]; padding: left, right, top, bottom, as F.pad has it."""


def _build_linear(node: Node, tensors: Tensors, device: torch.device) -> Step:
    weight, zero = tensors["weight"].to(device).double(), integer(node, "zero")
    end = _ending(node, tensors, device, 0)
    return lambda x: end(F.linear(x.double() - zero, weight))


def _linear_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x, 2)
    out, features = tensors["weight"].shape
    need(node, x.shape[1] == features, f"it takes {features} features; got {list(x.shape)}")
    return int8_form((1, out))


def _linear_working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    return SUM_BYTES * (2 * math.prod(inputs[0].shape) + 6 * math.prod(form.shape))


LINEAR = Kind(
    name="integer_linear",
    attrs=ZEROS,
    tensors={"weight": torch.int8, **FACTORS},
    optional={"bias": torch.int32},
    check=lambda node, tensors: _check(node, tensors, 2),
    shape=_linear_form,
    build=_build_linear,
    low_bit=True,
    loaded=_loaded,
    working=_linear_working,
)

PRODUCT_KINDS: tuple[Kind, ...] = (CONV, LINEAR)
