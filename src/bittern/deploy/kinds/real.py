# SPDX-License-Identifier: Apache-2.0
"""Node kinds that torch itself computes: real products, norms and biases.

Each is the same torch call as in the training graph, on tensors in the same layout wherever the layout could change
the order of a sum, so that the real parts give the same bits too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern import ops
from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.footprint import FLOAT_BYTES, units
from bittern.deploy.kinds.kind import (
    Kind,
    Step,
    channels_last,
    check_vectors,
    contiguous,
    count,
    falls_by_weight,
    flag,
    integer,
    integers,
    need_shape,
    number,
    real,
    sizes,
)
from bittern.deploy.kinds.shape_rules import per_channel, windows
from bittern.deploy.program import Node

F32 = torch.float32

SMALL_IMAGE = 20_480
"""Numbers up to which torch may write out the windows of a convolution one by one."""

Arrange = Callable[[Tensor], Tensor]
"""Puts a tensor into the memory layout in which a step reads it."""


def _build_conv(node: Node, tensors: Tensors, device: torch.device, arrange: Arrange = contiguous) -> Step:
    weight, bias = tensors["weight"], tensors.get("bias")
    conv = F.conv1d if weight.ndim == 3 else F.conv2d
    stride, padding, dilation = (integers(node, key) for key in ("stride", "padding", "dilation"))
    groups = integer(node, "groups")
    return lambda x: conv(arrange(x), weight, bias, stride, padding, dilation, groups)


def _check_conv(node: Node, tensors: Tensors) -> None:
    weight = tensors["weight"]
    if weight.ndim not in (3, 4) or any(
        len(integers(node, key)) != weight.ndim - 2 for key in ("stride", "padding", "dilation")
    ):
        raise FormatError(f"node {node.name!r} (conv): weight and geometry must be of a 1-d or 2-d convolution")
    need_shape(node, "bias", tensors.get("bias"), (weight.shape[0],))


def pads_whole_windows(node: Node, tensors: Tensors) -> bool:
    """Whether a window of a convolution may lie in the padding alone.

    Such ones keep the layout of the training graph: with channels last, dilation and a bias, oneDNN (torch 2.13)
    reads a null pointer for many of them.
    """
    if node.kind != "conv":
        return False
    return window_in_padding(tensors["weight"].shape[2:], integers(node, "padding"), integers(node, "dilation"))


def window_in_padding(kernel: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> bool:
    """Whether a window may lie in the padding alone."""
    return any(p > d * (k - 1) for k, p, d in zip(kernel, padding, dilation, strict=True))


def _conv_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    out, per_group, *kernel = tensors["weight"].shape
    groups = integer(node, "groups")
    need(node, out % groups == 0 and x.shape[1] == per_group * groups, f"it takes {per_group * groups} channels")
    need(node, min(out, per_group, *kernel) > 0, "its weight is empty")
    return Form((1, out, *windows(node, x, kernel)))


def _conv_loaded(node: Node, tensors: Tensors, form: Form) -> int:
    out, *rest = tensors["weight"].shape
    return 2 * FLOAT_BYTES * units(out) * math.prod(units(n) if i == 0 else n for i, n in enumerate(rest))


def _conv_working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Padded images, copies with channels in whole units, and the windows of small images one by one."""
    (x,), y, weight = (x.shape for x in inputs), form.shape, tensors["weight"].shape
    padded = [n + 2 * p for n, p in zip(x[2:], integers(node, "padding"), strict=True)]
    images = 3 * x[1] * math.prod(padded) + units(x[1]) * math.prod(x[2:])
    results = 2 * (y[1] + units(y[1])) * math.prod(y[2:])
    windows = math.prod(weight[1:]) * integer(node, "groups") * math.prod(y[2:])
    return FLOAT_BYTES * (images + results + (windows if math.prod(x) <= SMALL_IMAGE else 0))


CONV = Kind(
    name="conv",
    attrs={
        "stride": sizes(1, 2, least=1, default=[1, 1]),
        "padding": sizes(1, 2, default=[0, 0]),
        "dilation": sizes(1, 2, least=1, default=[1, 1]),
        "groups": count(1, default=1),
    },
    tensors={"weight": F32},
    optional={"bias": F32},
    check=_check_conv,
    shape=_conv_form,
    build=_build_conv,
    build_last=partial(_build_conv, arrange=channels_last),
    product=True,
    loaded=_conv_loaded,
    working=_conv_working,
)


def _check_linear(node: Node, tensors: Tensors) -> None:
    if tensors["weight"].ndim != 2:
        raise FormatError(f"node {node.name!r} (linear): weight must have 2 dimensions")
    need_shape(node, "bias", tensors.get("bias"), (tensors["weight"].shape[0],))


def _build_linear(node: Node, tensors: Tensors, device: torch.device) -> Step:
    weight, bias = tensors["weight"], tensors.get("bias")
    return lambda x: F.linear(contiguous(x), weight, bias)


def _linear_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    out, features = tensors["weight"].shape
    need(node, x.shape[-1] == features, f"it takes {features} features; got {list(x.shape)}")
    return Form((*x.shape[:-1], out))


LINEAR = Kind(
    name="linear",
    tensors={"weight": F32},
    optional={"bias": F32},
    check=_check_linear,
    shape=_linear_form,
    build=_build_linear,
    product=True,
)


def _build_batch_norm(node: Node, tensors: Tensors, device: torch.device, arrange: Arrange = contiguous) -> Step:
    mean, var, weight, bias = (tensors.get(role) for role in ("mean", "var", "weight", "bias"))
    eps = number(node, "eps")
    return lambda x: F.batch_norm(arrange(x), mean, var, weight, bias, False, 0.0, eps)


BATCH_NORM = Kind(
    name="batch_norm",
    attrs={"eps": real(least=0.0, default=1e-5)},
    tensors={"mean": F32, "var": F32},
    optional={"weight": F32, "bias": F32},
    check=check_vectors,
    shape=per_channel,
    build=_build_batch_norm,
    build_last=partial(_build_batch_norm, arrange=channels_last),
    monotone=falls_by_weight,
    finite=True,
)


def _check_affine(node: Node, tensors: Tensors) -> None:
    if tensors["affine"].ndim != 2 or tensors["affine"].shape[0] != 2:
        raise FormatError(f"node {node.name!r} (affine): its tensor must be [2, channels]")


def _build_affine(node: Node, tensors: Tensors, device: torch.device, arrange: Arrange = contiguous) -> Step:
    """fma(x, alpha, beta): on a CPU torch's batch norm of mean 0 and variance 1 (docs/numerics.md).

    Elsewhere that batch norm rounds twice.
    """
    alpha, beta = tensors["affine"]
    if device.type != "cpu":
        return lambda x: ops.fused_multiply_add(x, *(tensors["affine"].view(2, -1, *[1] * (x.ndim - 2))))
    mean, var = torch.zeros_like(alpha), torch.ones_like(alpha)
    return lambda x: torch.batch_norm(arrange(x), alpha, beta, mean, var, False, 0.0, 0.0, False)


AFFINE = Kind(
    name="affine",
    tensors={"affine": F32},
    check=_check_affine,
    shape=per_channel,
    build=_build_affine,
    build_last=partial(_build_affine, arrange=channels_last),
)


def _check_layer_norm(node: Node, tensors: Tensors) -> None:
    for role in ("weight", "bias"):
        need_shape(node, role, tensors.get(role), tuple(integers(node, "shape")))


def _build_layer_norm(node: Node, tensors: Tensors, device: torch.device) -> Step:
    shape, eps = integers(node, "shape"), number(node, "eps")
    weight, bias = tensors.get("weight"), tensors.get("bias")
    return lambda x: F.layer_norm(contiguous(x), shape, weight, bias, eps)


def _layer_norm_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    shape = tuple(integers(node, "shape"))
    need(node, len(shape) < len(x.shape) and x.shape[-len(shape) :] == shape, f"it takes [..., {shape}]")
    return x


LAYER_NORM = Kind(
    name="layer_norm",
    attrs={"shape": sizes(1, 2, 3, 4, least=1, most=2**24), "eps": real(least=0.0, default=1e-5)},
    optional={"weight": F32, "bias": F32},
    check=_check_layer_norm,
    shape=_layer_norm_form,
    build=_build_layer_norm,
)


def _build_bias(node: Node, tensors: Tensors, device: torch.device) -> Step:
    bias, last = tensors["bias"], node.attrs["last"]
    return lambda x: x + (bias if last else bias.view(1, -1, *(1,) * (x.ndim - 2)))


def _bias_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    length = tensors["bias"].numel()
    need(node, length == x.shape[-1 if node.attrs["last"] else 1], f"it takes {length} channels")
    return x


BIAS = Kind(
    name="bias",
    attrs={"last": flag(default=False)},
    tensors={"bias": F32},
    check=check_vectors,
    shape=_bias_form,
    build=_build_bias,
    finite=True,
)


REAL_KINDS: tuple[Kind, ...] = (CONV, LINEAR, BATCH_NORM, AFFINE, LAYER_NORM, BIAS)
