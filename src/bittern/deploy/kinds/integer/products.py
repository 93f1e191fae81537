# SPDX-License-Identifier: Apache-2.0
"""Convolutions and linear layers of int8: y = zero_y + M (sum w (x - zero_x) + bias), M a fixed-point factor a channel.

Jacob et al., arXiv:1712.05877, eq. 7; weights are symmetric (their zero point is 0), as the int8 specification of
TensorFlow Lite has them. A window that reaches beyond its image sees zero_x there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.parts import LEAST, LIMITS, MOST, SUM_BYTES, int8_form, need_int8, zero_point
from bittern.deploy.kinds.kind import IMAGE_DIMS, Kind, Step, count, flag, integer, integers, need_shape, sizes
from bittern.deploy.kinds.shape_rules import window
from bittern.deploy.program import Node
from bittern.ops import IntegerEnds, IntegerGeometry, PreparedIntegerConv, integer_conv_reference

FACTORS = {"multiplier": torch.int32, "shift": torch.int32}
BYTE_BITS, LEAST_BITS = 8, 2
ZEROS = {
    "zero": zero_point(),
    "out_zero": zero_point(),
    "once": flag(default=False),
    **LIMITS,
    "weight_bits": count(LEAST_BITS, BYTE_BITS, optional=True),
}
"""`once`: the factor rounds once (`scaled_once`), not twice (`scaled`); `weight_bits`: 8 where it is left out."""


def weight_bits(node: Node) -> int:
    """Bits that each integer of a node's weight needs, which are those that it takes in a file (`few_bits`)."""
    said = node.attrs.get("weight_bits")
    return said if isinstance(said, int) else BYTE_BITS


def check_products(node: Node, tensors: Tensors, dims: int) -> None:
    weight = tensors["weight"]
    if weight.ndim != dims or weight.numel() == 0:
        raise FormatError(f"node {node.name!r} ({node.kind}): weight must have {dims} dimensions, and numbers")
    least, most = -(2 ** (weight_bits(node) - 1)), 2 ** (weight_bits(node) - 1) - 1
    if bool((weight < least).any()) or bool((weight > most).any()):
        raise FormatError(f"node {node.name!r} ({node.kind}): its weights must lie in [{least}, {most}]")
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


def _ends(node: Node) -> IntegerEnds:
    zero, out_zero, low, high = (integer(node, key) for key in ("zero", "out_zero", "low", "high"))
    return IntegerEnds(zero, out_zero, bool(node.attrs["once"]), low, high)


def _geometry(node: Node) -> IntegerGeometry:
    stride, padding, dilation = (integers(node, key) for key in ("stride", "padding", "dilation"))
    return IntegerGeometry(stride, padding, dilation, integer(node, "groups"))


def prepared(node: Node, tensors: Tensors) -> PreparedIntegerConv:
    """The native convolution of a product; a linear layer is one over images of one pixel."""
    weight = tensors["weight"]
    geometry = _geometry(node) if weight.ndim == IMAGE_DIMS else IntegerGeometry()
    w = weight if weight.ndim == IMAGE_DIMS else weight[..., None, None]
    return PreparedIntegerConv(w, tensors.get("bias"), tensors["multiplier"], tensors["shift"], _ends(node), geometry)


def _build_conv(node: Node, tensors: Tensors, device: torch.device) -> Step:
    if device.type == "cpu":
        return prepared(node, tensors)
    there = {role: tensor.to(device) for role, tensor in tensors.items()}
    ends, geometry = _ends(node), _geometry(node)
    rows = there.get("bias"), there["multiplier"], there["shift"]
    return lambda x: integer_conv_reference(x, there["weight"], *rows, ends, geometry)


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


def loaded(node: Node, tensors: Tensors, form: Form) -> int:
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
    check=lambda node, tensors: check_products(node, tensors, IMAGE_DIMS),
    shape=_conv_form,
    build=_build_conv,
    low_bit=True,
    loaded=loaded,
    working=_conv_working,
)
"""int8 [B, C, H, W] with weight [O, C / groups, kh, kw]; padding: left, right, top, bottom, as F.pad has it."""


def _build_linear(node: Node, tensors: Tensors, device: torch.device) -> Step:
    if device.type == "cpu":
        conv = prepared(node, tensors)
        return lambda x: conv(x[..., None, None]).flatten(1)
    there = {role: tensor.to(device) for role, tensor in tensors.items()}
    weight, ends, geometry = there["weight"][..., None, None], _ends(node), IntegerGeometry()
    rows = there.get("bias"), there["multiplier"], there["shift"]
    return lambda x: integer_conv_reference(x[..., None, None], weight, *rows, ends, geometry).flatten(1)


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
    check=lambda node, tensors: check_products(node, tensors, 2),
    shape=_linear_form,
    build=_build_linear,
    low_bit=True,
    loaded=loaded,
    working=_linear_working,
)

PRODUCT_KINDS: tuple[Kind, ...] = (CONV, LINEAR)
