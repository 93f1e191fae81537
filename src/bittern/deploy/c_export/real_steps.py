# SPDX-License-Identifier: Apache-2.0
"""C code of the node kinds of `kinds.real`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bittern.deploy.c_export import elementwise, real_code
from bittern.deploy.c_export.plan import Step
from bittern.deploy.c_export.source import NULL, CFunction, Fields, Source, value
from bittern.deploy.c_export.window import window
from bittern.deploy.kinds.activations import DPRELU_ROWS
from bittern.deploy.kinds.kind import integer, integers, number
from bittern.deploy.program import Node
from bittern.ops import fused_multiply_add

SIX = 6.0
"""Upper end of relu6."""


def _optional(c: Source, node: Node, role: str) -> str:
    return c.floats(node, role, c.tensor(node, role)) if role in node.tensors else NULL


def _ends(node: Node) -> tuple[str, str]:
    return value(node.inputs[0]), value(node.output)


def _count(c: Source, node: Node) -> int:
    return math.prod(c.forms[node.output].shape)


def conv(c: Source, step: Step) -> str:
    return c.call(real_code.CONV, convolution(c, step.node), *_ends(step.node))


def convolution(c: Source, node: Node) -> str:
    """Address of the constant that describes a convolution."""
    weight = c.tensor(node, "weight")
    out, per_group, *kernel = weight.shape
    groups = integer(node, "groups")
    fields: Fields = [
        window(node, c.forms[node.inputs[0]], c.forms[node.output], kernel),
        per_group * groups,
        out,
        groups,
        c.floats(node, "weight", weight.movedim(1, -1)),
        _optional(c, node, "bias"),
    ]
    return c.record(node, real_code.CONVOLUTION, real_code.CONVOLUTION.name, fields)


def linear(c: Source, step: Step) -> str:
    node = step.node
    out, features = c.tensor(node, "weight").shape
    rows = math.prod(c.forms[node.inputs[0]].shape) // features
    x, y = _ends(node)
    weight, bias = c.floats(node, "weight", c.tensor(node, "weight")), _optional(c, node, "bias")
    return c.call(real_code.LINEAR, x, rows, features, out, weight, bias, y)


def _per_channel(c: Source, node: Node, function: CFunction, vectors: dict[str, Tensor], dim: int = 1) -> str:
    """A call of a function over [outer][channels][inner], with the channels along `dim`."""
    shape = c.forms[node.inputs[0]].shape
    sizes = (math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :]))
    names = [c.floats(node, role, vector.expand(shape[dim])) for role, vector in vectors.items()]
    x, y = _ends(node)
    return c.call(function, x, *sizes, *names, y)


def affine(c: Source, step: Step) -> str:
    alpha, beta = c.tensor(step.node, "affine")
    return _per_channel(c, step.node, elementwise.AFFINE, {"alpha": alpha, "beta": beta})


def batch_norm(c: Source, step: Step) -> str:
    """As an affine: one that torch rounds otherwise where this was packed (docs/numerics.md, "Epilogue")."""
    node = step.node
    mean, var = c.tensor(node, "mean"), c.tensor(node, "var")
    gamma = c.tensor(node, "weight") if "weight" in node.tensors else torch.ones_like(mean)
    bias = c.tensor(node, "bias") if "bias" in node.tensors else torch.zeros_like(mean)
    alpha = torch.rsqrt(var + number(node, "eps")) * gamma
    return _per_channel(c, node, elementwise.AFFINE, {"alpha": alpha, "beta": fused_multiply_add(-mean, alpha, bias)})


def bias(c: Source, step: Step) -> str:
    node = step.node
    dim = len(c.forms[node.inputs[0]].shape) - 1 if node.attrs["last"] else 1
    return _per_channel(c, node, elementwise.BIAS, {"bias": c.tensor(node, "bias")}, dim)


def prelu(c: Source, step: Step) -> str:
    return _per_channel(c, step.node, elementwise.PRELU, {"slope": c.tensor(step.node, "weight")})


def rprelu(c: Source, step: Step) -> str:
    vectors = {role: c.tensor(step.node, role) for role in ("before", "slope", "after")}
    return _per_channel(c, step.node, elementwise.RPRELU, vectors)


def dprelu(c: Source, step: Step) -> str:
    return _per_channel(c, step.node, elementwise.DPRELU, {role: c.tensor(step.node, role) for role in DPRELU_ROWS})


def shifted_sign(c: Source, step: Step) -> str:
    return _per_channel(c, step.node, elementwise.SHIFTED_SIGN, {"shift": c.tensor(step.node, "shift")})


def _clamp(c: Source, node: Node, least: float, most: float) -> str:
    x, y = _ends(node)
    return c.call(elementwise.CLAMP, x, _count(c, node), c.real(least), c.real(most), y)


def hardtanh(c: Source, step: Step) -> str:
    return _clamp(c, step.node, number(step.node, "least"), number(step.node, "most"))


def relu(c: Source, step: Step) -> str:
    return _clamp(c, step.node, 0.0, math.inf)


def relu6(c: Source, step: Step) -> str:
    return _clamp(c, step.node, 0.0, SIX)


def leaky_relu(c: Source, step: Step) -> str:
    node = step.node
    x, y = _ends(node)
    return c.call(elementwise.LEAKY_RELU, x, _count(c, node), c.real(number(node, "slope")), y)


def simple(c: Source, step: Step) -> str:
    """A kind of `elementwise.SIMPLE`."""
    x, y = _ends(step.node)
    return c.call(elementwise.SIMPLE[step.node.kind], x, _count(c, step.node), y)


def layer_norm(c: Source, step: Step) -> str:
    node = step.node
    features = math.prod(integers(node, "shape"))
    vectors = (_optional(c, node, "weight"), _optional(c, node, "bias"))
    x, y = _ends(node)
    eps = c.real(number(node, "eps"))
    return c.call(real_code.LAYER_NORM, x, _count(c, node) // features, features, eps, *vectors, y)


def softmax(c: Source, step: Step) -> str:
    node = step.node
    shape: Sequence[int] = c.forms[node.inputs[0]].shape
    dim = integer(node, "dim") % len(shape)
    sizes = (math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :]))
    x, y = _ends(node)
    return c.call(real_code.SOFTMAX, x, *sizes, int(bool(node.attrs["log"])), y)
