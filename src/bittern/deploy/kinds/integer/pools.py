# SPDX-License-Identifier: Apache-2.0
"""Pools of int8 values, whose scale is that of their input: a mean is rounded to the nearest, halves away from zero."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.parts import LIMITS, SUM_BYTES, int8_form, need_int8
from bittern.deploy.kinds.kind import IMAGE_DIMS, Kind, Step, integer, integers, sizes
from bittern.deploy.kinds.shape_rules import window
from bittern.deploy.program import Node
from bittern.ops import IntegerPoolRule, integer_pool, integer_pool_reference


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x, IMAGE_DIMS)
    kernel, stride = integers(node, "kernel"), integers(node, "stride")
    left, right, top, bottom = integers(node, "padding")
    need(node, max(top, bottom) < kernel[0] and max(left, right) < kernel[1], "a window may lie in the padding alone")
    padded = (x.shape[2] + top + bottom, x.shape[3] + left + right)
    geometry = zip(padded, kernel, stride, strict=True)
    return int8_form((1, x.shape[1], *(window(node, size, k, s, 0, 1) for size, k, s in geometry)))


def pool_rule(node: Node) -> IntegerPoolRule:
    kernel, stride, padding = (integers(node, key) for key in ("kernel", "stride", "padding"))
    low, high = integer(node, "low"), integer(node, "high")
    return IntegerPoolRule(node.kind == "integer_average", kernel, stride, padding, low, high)


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    run = integer_pool if device.type == "cpu" else integer_pool_reference
    return partial(run, rule=pool_rule(node))


def _working(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """Images in float64, padded, and some copies of the results."""
    (x,) = inputs
    left, right, top, bottom = integers(node, "padding")
    padded = x.shape[1] * (x.shape[2] + top + bottom) * (x.shape[3] + left + right)
    return SUM_BYTES * (4 * (padded + x.elements) + 6 * form.elements)


def _pool(name: str) -> Kind:
    """padding: left, right, top, bottom, which a window does not count."""
    attrs = {
        "kernel": sizes(2, least=1),
        "stride": sizes(2, least=1),
        "padding": sizes(4, default=[0, 0, 0, 0]),
        **LIMITS,
    }
    return Kind(name=name, attrs=attrs, shape=_form, build=_build, low_bit=True, working=_working)


POOL_KINDS: tuple[Kind, ...] = (_pool("integer_average"), _pool("integer_max"))
