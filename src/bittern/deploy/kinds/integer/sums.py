# SPDX-License-Identifier: Apache-2.0
"""The sum of two int8 values of different scales, as TensorFlow Lite defines it."""

from __future__ import annotations

from functools import partial

import torch

from bittern.deploy.form import Form, Tensors
from bittern.deploy.kinds.integer.parts import (
    LIMITS,
    factor_at,
    factor_rules,
    int8_form,
    need_int8,
    zero_point,
)
from bittern.deploy.kinds.kind import Kind, Step, integer
from bittern.deploy.kinds.shape_rules import broadcast
from bittern.deploy.program import Node
from bittern.ops import IntegerSum, integer_add, integer_add_reference


def _form(node: Node, tensors: Tensors, a: Form, b: Form) -> Form:
    need_int8(node, a)
    need_int8(node, b)
    return int8_form(broadcast(node, a.shape, b.shape))


def sum_rule(node: Node) -> IntegerSum:
    zero_a, zero_b, out_zero, low, high = (
        integer(node, key) for key in ("zero_a", "zero_b", "out_zero", "low", "high")
    )
    a, b, own = (factor_at(node, key) for key in ("a_", "b_", ""))
    return IntegerSum(zero_a, zero_b, out_zero, a, b, own, low, high)


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    run = integer_add if device.type == "cpu" else integer_add_reference
    return partial(run, rule=sum_rule(node))


ADD = Kind(
    name="integer_add",
    inputs=(2,),
    attrs={
        "zero_a": zero_point(),
        "zero_b": zero_point(),
        "out_zero": zero_point(),
        **LIMITS,
        **factor_rules("a_"),
        **factor_rules("b_"),
        **factor_rules(),
    },
    shape=_form,
    build=_build,
    low_bit=True,
    working=lambda node, tensors, inputs, form: 8 * 8 * form.elements,
)
"""zero + M ((a - zero_a) 2^20 Ma + (b - zero_b) 2^20 Mb), every product rounded (`ops.fixed_point.scaled`)."""
