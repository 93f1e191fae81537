# SPDX-License-Identifier: Apache-2.0
"""Node kinds of one real number, or of one row for softmax: what stands between the layers.

Each is the same torch call as in the training graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern import ops
from bittern.deploy.errors import FormatError
from bittern.deploy.form import Form, Tensors, need, need_real
from bittern.deploy.kinds.kind import (
    Kind,
    Step,
    check_vectors,
    contiguous,
    count,
    flag,
    integer,
    number,
    real,
    rises,
)
from bittern.deploy.kinds.shape_rules import per_channel, same
from bittern.deploy.program import Node
from bittern.nn.activation import dprelu, rprelu

F32 = torch.float32


def _always(function: Callable[[Tensor], Tensor]) -> Callable[[Node, Tensors, torch.device], Step]:
    """`build` of a kind without attributes."""
    return lambda node, tensors, device: function


def _in_order(name: str, function: Callable[[Tensor], Tensor]) -> Kind:
    """An elementwise kind that torch computes by vectors and a scalar rest, whose last bits depend on the place."""
    return Kind(name=name, shape=same, build=_always(lambda x: function(contiguous(x))))


# -- without attributes ------------------------------------------------------------------------------------

RELU = Kind(
    name="relu",
    shape=same,
    build=_always(F.relu),
    monotone=rises,
    finite=True,
    clamp=lambda node: (0.0, math.inf),
)
RELU6 = Kind(name="relu6", shape=same, build=_always(F.relu6), finite=True, clamp=lambda node: (0.0, 6.0))
SIGN = Kind(name="sign", shape=same, build=_always(ops.sign))
HARD_SIGMOID = Kind(name="hardsigmoid", shape=same, build=_always(F.hardsigmoid), finite=True)
GELU = _in_order("gelu", F.gelu)
SILU = _in_order("silu", F.silu)
SIGMOID = _in_order("sigmoid", torch.sigmoid)
TANH = _in_order("tanh", torch.tanh)


# -- with numbers ------------------------------------------------------------------------------------------


def _limits(node: Node) -> tuple[float, float]:
    return number(node, "least"), number(node, "most")


def _check_limits(node: Node, tensors: Tensors) -> None:
    least, most = _limits(node)
    if least > most:
        raise FormatError(f"node {node.name!r} (hardtanh): its least is above its most")


def _build_hardtanh(node: Node, tensors: Tensors, device: torch.device) -> Step:
    least, most = _limits(node)
    return lambda x: F.hardtanh(x, least, most)


HARDTANH = Kind(
    name="hardtanh",
    attrs={"least": real(default=-1.0), "most": real(default=1.0)},
    check=_check_limits,
    shape=same,
    build=_build_hardtanh,
    monotone=rises,
    finite=True,
    clamp=_limits,
)


def _build_leaky_relu(node: Node, tensors: Tensors, device: torch.device) -> Step:
    slope = number(node, "slope")
    return lambda x: F.leaky_relu(x, slope)


LEAKY_RELU = Kind(name="leaky_relu", attrs={"slope": real()}, shape=same, build=_build_leaky_relu, finite=True)


# -- with a number for each channel ------------------------------------------------------------------------


def _build_rprelu(node: Node, tensors: Tensors, device: torch.device) -> Step:
    before, slope, after = tensors["before"], tensors["slope"], tensors["after"]
    return lambda x: rprelu(x, before, slope, after)


RPRELU = Kind(
    name="rprelu",
    tensors={"before": F32, "slope": F32, "after": F32},
    check=check_vectors,
    shape=per_channel,
    build=_build_rprelu,
    finite=True,
)


DPRELU_ROWS = ("before", "rise", "fall", "after")
"""Tensors of `dprelu`, in the order of its arguments."""


def _build_dprelu(node: Node, tensors: Tensors, device: torch.device) -> Step:
    vectors = [tensors[role] for role in DPRELU_ROWS]
    return lambda x: dprelu(x, *vectors)


DPRELU = Kind(
    name="dprelu",
    tensors=dict.fromkeys(DPRELU_ROWS, F32),
    check=check_vectors,
    shape=per_channel,
    build=_build_dprelu,
    finite=True,
)


def _prelu_form(node: Node, tensors: Tensors, x: Form) -> Form:
    return same(node, tensors, x) if tensors["weight"].numel() == 1 else per_channel(node, tensors, x)


def _build_prelu(node: Node, tensors: Tensors, device: torch.device) -> Step:
    return lambda x: F.prelu(x, tensors["weight"])


PRELU = Kind(
    name="prelu", tensors={"weight": F32}, check=check_vectors, shape=_prelu_form, build=_build_prelu, finite=True
)


def _build_shifted_sign(node: Node, tensors: Tensors, device: torch.device) -> Step:
    shift = tensors["shift"]
    return lambda x: ops.sign(x + shift.view(1, -1, *(1,) * (x.ndim - 2)))


SHIFTED_SIGN = Kind(
    name="shifted_sign", tensors={"shift": F32}, check=check_vectors, shape=per_channel, build=_build_shifted_sign
)


# -- of a row ----------------------------------------------------------------------------------------------


def _softmax_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x)
    dim = integer(node, "dim")
    need(node, -len(x.shape) < dim < len(x.shape) and dim != 0, f"dimension {dim} of {list(x.shape)}")
    return x


def _build_softmax(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dim, log = integer(node, "dim"), node.attrs["log"]
    return lambda x: F.log_softmax(x, dim) if log else F.softmax(x, dim)


SOFTMAX = Kind(
    name="softmax",
    attrs={"dim": count(-4, 3), "log": flag(default=False)},
    shape=_softmax_form,
    build=_build_softmax,
)


ACTIVATION_KINDS: tuple[Kind, ...] = (
    RELU,
    RELU6,
    SIGN,
    HARD_SIGMOID,
    GELU,
    SILU,
    SIGMOID,
    TANH,
    HARDTANH,
    LEAKY_RELU,
    RPRELU,
    DPRELU,
    PRELU,
    SHIFTED_SIGN,
    SOFTMAX,
)
