# SPDX-License-Identifier: Apache-2.0
"""The sum of two int8 values of different scales, as TensorFlow Lite defines it."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.deploy.form import Form, Tensors
from bittern.deploy.kinds.integer.parts import (
    LIMITS,
    factor_at,
    factor_rules,
    int8_form,
    limited,
    need_int8,
    zero_point,
)
from bittern.deploy.kinds.kind import Kind, Step, integer
from bittern.deploy.kinds.shape_rules import broadcast
from bittern.deploy.program import Node
from bittern.ops.fixed_point import scaled

LEFT_SHIFT = 20
"""Bits by which both go up before their factors, which are at most 1, so that those cost no precision."""


def _form(node: Node, tensors: Tensors, a: Form, b: Form) -> Form:
    need_int8(node, a)
    need_int8(node, b)
    return int8_form(broadcast(node, a.shape, b.shape))


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    zeros = [integer(node, key) for key in ("zero_a", "zero_b")]
    factors = [factor_at(node, key) for key in ("a_", "b_")]
    own, end = factor_at(node), limited(node)

    def step(a: Tensor, b: Tensor) -> Tensor:
        parts = zip((a, b), zeros, factors, strict=True)
        first, second = (scaled((x.long() - zero) << LEFT_SHIFT, *factor) for x, zero, factor in parts)
        return end(scaled(first + second, *own))

    return step


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
