# SPDX-License-Identifier: Apache-2.0
"""Node kinds that torch itself computes: real layers and activations.

Each is the same torch call as in the training graph, on tensors in the same layout wherever the layout could change
the order of a sum, so that the real parts give the same bits too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern import ops
from bittern.deploy.errors import FormatError
from bittern.deploy.kinds.kind import (
    Kind,
    Step,
    any_shape,
    channels_last,
    contiguous,
    count,
    flag,
    integer,
    integers,
    need_shape,
    number,
    real,
    sizes,
)
from bittern.deploy.program import Node
from bittern.nn.activation import rprelu

F32 = torch.float32
Tensors = Mapping[str, Tensor]


def _vectors(node: Node, tensors: Tensors) -> None:
    lengths = {tuple(t.shape) for t in tensors.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise FormatError(f"node {node.name!r} ({node.kind}): its tensors must be vectors of one length")


def _simple(name: str, function: Callable[[Tensor], Tensor]) -> Kind:
    """An elementwise kind without attributes."""
    return Kind(name, (1,), {}, {}, {}, any_shape, lambda node, tensors, device: function)


def _in_order(name: str, function: Callable[[Tensor], Tensor]) -> Kind:
    """An elementwise kind that torch computes by vectors and a scalar rest, whose last bits depend on the place."""
    return _simple(name, lambda x: function(contiguous(x)))


Arrange = Callable[[Tensor], Tensor]
"""Puts a tensor into the memory layout in which a step reads it."""


def _build_conv(node: Node, tensors: Tensors, device: torch.device, arrange: Arrange = contiguous) -> Step:
    weight, bias = tensors["weight"], tensors.get("bias")
    conv = F.conv1d if weight.ndim == 3 else F.conv2d
    stride, padding, dilation = (integers(node, key) for key in ("stride", "padding", "dilation"))
    groups = integer(node, "groups")
    return lambda x: conv(arrange(x), weight, bias, stride, padding, dilation, groups)


def _conv_shapes(node: Node, tensors: Tensors) -> None:
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


CONV = Kind(
    "conv",
    (1,),
    {
        "stride": sizes(1, 2, least=1, default=[1, 1]),
        "padding": sizes(1, 2, default=[0, 0]),
        "dilation": sizes(1, 2, least=1, default=[1, 1]),
        "groups": count(1, default=1),
    },
    {"weight": F32},
    {"bias": F32},
    _conv_shapes,
    _build_conv,
    partial(_build_conv, arrange=channels_last),
)


def _linear_shapes(node: Node, tensors: Tensors) -> None:
    if tensors["weight"].ndim != 2:
        raise FormatError(f"node {node.name!r} (linear): weight must have 2 dimensions")
    need_shape(node, "bias", tensors.get("bias"), (tensors["weight"].shape[0],))


def _build_linear(node: Node, tensors: Tensors, device: torch.device) -> Step:
    weight, bias = tensors["weight"], tensors.get("bias")
    return lambda x: F.linear(contiguous(x), weight, bias)


LINEAR = Kind("linear", (1,), {}, {"weight": F32}, {"bias": F32}, _linear_shapes, _build_linear)


def _build_batch_norm(node: Node, tensors: Tensors, device: torch.device, arrange: Arrange = contiguous) -> Step:
    mean, var, weight, bias = (tensors.get(role) for role in ("mean", "var", "weight", "bias"))
    eps = number(node, "eps")
    return lambda x: F.batch_norm(arrange(x), mean, var, weight, bias, False, 0.0, eps)


BATCH_NORM = Kind(
    "batch_norm",
    (1,),
    {"eps": real(least=0.0, default=1e-5)},
    {"mean": F32, "var": F32},
    {"weight": F32, "bias": F32},
    _vectors,
    _build_batch_norm,
    partial(_build_batch_norm, arrange=channels_last),
)


def _affine_shapes(node: Node, tensors: Tensors) -> None:
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
    "affine",
    (1,),
    {},
    {"affine": F32},
    {},
    _affine_shapes,
    _build_affine,
    partial(_build_affine, arrange=channels_last),
)


def _layer_norm_shapes(node: Node, tensors: Tensors) -> None:
    for role in ("weight", "bias"):
        need_shape(node, role, tensors.get(role), tuple(integers(node, "shape")))


def _build_layer_norm(node: Node, tensors: Tensors, device: torch.device) -> Step:
    shape, eps = integers(node, "shape"), number(node, "eps")
    weight, bias = tensors.get("weight"), tensors.get("bias")
    return lambda x: F.layer_norm(contiguous(x), shape, weight, bias, eps)


LAYER_NORM = Kind(
    "layer_norm",
    (1,),
    {"shape": sizes(1, 2, 3, 4, least=1, most=2**24), "eps": real(least=0.0, default=1e-5)},
    {},
    {"weight": F32, "bias": F32},
    _layer_norm_shapes,
    _build_layer_norm,
)


def _build_rprelu(node: Node, tensors: Tensors, device: torch.device) -> Step:
    before, slope, after = tensors["before"], tensors["slope"], tensors["after"]
    return lambda x: rprelu(x, before, slope, after)


RPRELU = Kind("rprelu", (1,), {}, {"before": F32, "slope": F32, "after": F32}, {}, _vectors, _build_rprelu)


def _build_prelu(node: Node, tensors: Tensors, device: torch.device) -> Step:
    return lambda x: F.prelu(x, tensors["weight"])


PRELU = Kind("prelu", (1,), {}, {"weight": F32}, {}, _vectors, _build_prelu)


def _build_shifted_sign(node: Node, tensors: Tensors, device: torch.device) -> Step:
    shift = tensors["shift"]
    return lambda x: ops.sign(x + shift.view(1, -1, *(1,) * (x.ndim - 2)))


SHIFTED_SIGN = Kind("shifted_sign", (1,), {}, {"shift": F32}, {}, _vectors, _build_shifted_sign)


def _build_bias(node: Node, tensors: Tensors, device: torch.device) -> Step:
    bias, last = tensors["bias"], node.attrs["last"]
    return lambda x: x + (bias if last else bias.view(1, -1, *(1,) * (x.ndim - 2)))


BIAS = Kind("bias", (1,), {"last": flag(default=False)}, {"bias": F32}, {}, _vectors, _build_bias)


def _hardtanh_limits(node: Node, tensors: Tensors) -> None:
    if number(node, "least") > number(node, "most"):
        raise FormatError(f"node {node.name!r} (hardtanh): its least is above its most")


def _build_hardtanh(node: Node, tensors: Tensors, device: torch.device) -> Step:
    least, most = number(node, "least"), number(node, "most")
    return lambda x: F.hardtanh(x, least, most)


HARDTANH = Kind(
    "hardtanh",
    (1,),
    {"least": real(default=-1.0), "most": real(default=1.0)},
    {},
    {},
    _hardtanh_limits,
    _build_hardtanh,
)


def _build_leaky_relu(node: Node, tensors: Tensors, device: torch.device) -> Step:
    slope = number(node, "slope")
    return lambda x: F.leaky_relu(x, slope)


LEAKY_RELU = Kind("leaky_relu", (1,), {"slope": real()}, {}, {}, any_shape, _build_leaky_relu)


def _build_softmax(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dim, log = integer(node, "dim"), node.attrs["log"]
    return lambda x: F.log_softmax(x, dim) if log else F.softmax(x, dim)


SOFTMAX = Kind("softmax", (1,), {"dim": count(-4, 3), "log": flag(default=False)}, {}, {}, any_shape, _build_softmax)


REAL_KINDS: tuple[Kind, ...] = (
    CONV,
    LINEAR,
    BATCH_NORM,
    AFFINE,
    LAYER_NORM,
    RPRELU,
    PRELU,
    SHIFTED_SIGN,
    BIAS,
    HARDTANH,
    LEAKY_RELU,
    SOFTMAX,
    _simple("relu", F.relu),
    _simple("relu6", F.relu6),
    _in_order("gelu", F.gelu),
    _in_order("silu", F.silu),
    _in_order("sigmoid", torch.sigmoid),
    _in_order("tanh", torch.tanh),
    _simple("sign", ops.sign),
)
