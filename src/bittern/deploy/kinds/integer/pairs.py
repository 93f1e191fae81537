# SPDX-License-Identifier: Apache-2.0
"""Differences, products and extremes of two int8 values, number by number, as TensorFlow Lite defines them."""

from __future__ import annotations

from collections.abc import Callable

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
from bittern.ops.integer_add.reference import LEFT_SHIFT

ZEROS = {"zero_a": zero_point(), "zero_b": zero_point(), "out_zero": zero_point(), **LIMITS}


def _form(node: Node, tensors: Tensors, a: Form, b: Form) -> Form:
    need_int8(node, a)
    need_int8(node, b)
    return int8_form(broadcast(node, a.shape, b.shape))


def _build_subtract(node: Node, tensors: Tensors, device: torch.device) -> Step:
    zeros = [integer(node, key) for key in ("zero_a", "zero_b")]
    factors = [factor_at(node, key) for key in ("a_", "b_")]
    own, end = factor_at(node), limited(node)

    def step(a: Tensor, b: Tensor) -> Tensor:
        parts = zip((a, b), zeros, factors, strict=True)
        first, second = (scaled((x.long() - zero) << LEFT_SHIFT, *factor) for x, zero, factor in parts)
        return end(scaled(first - second, *own))

    return step


SUBTRACT = Kind(
    name="integer_subtract",
    inputs=(2,),
    attrs={**ZEROS, **factor_rules("a_"), **factor_rules("b_"), **factor_rules()},
    shape=_form,
    build=_build_subtract,
    low_bit=True,
    working=lambda node, tensors, inputs, form: 8 * 8 * form.elements,
)
"""zero + M ((a - zero_a) 2^20 Ma - (b - zero_b) 2^20 Mb), every product rounded (`ops.fixed_point.scaled`)."""


def _build_multiply(node: Node, tensors: Tensors, device: torch.device) -> Step:
    zero_a, zero_b = (integer(node, key) for key in ("zero_a", "zero_b"))
    factor, end = factor_at(node), limited(node)

    def step(a: Tensor, b: Tensor) -> Tensor:
        return end(scaled((a.long() - zero_a) * (b.long() - zero_b), *factor))

    return step


MULTIPLY = Kind(
    name="integer_multiply",
    inputs=(2,),
    attrs={**ZEROS, **factor_rules()},
    shape=_form,
    build=_build_multiply,
    low_bit=True,
    working=lambda node, tensors, inputs, form: 8 * 8 * form.elements,
)
"""zero + M (a - zero_a) (b - zero_b), rounded as `ops.fixed_point.scaled`."""


def _extreme(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> Kind:
    """Of two values of one scale and zero point."""
    return Kind(
        name=name,
        inputs=(2,),
        shape=_form,
        build=lambda node, tensors, device: function,
        low_bit=True,
        working=lambda node, tensors, inputs, form: 2 * form.elements,
    )


PAIR_KINDS: tuple[Kind, ...] = (
    SUBTRACT,
    MULTIPLY,
    _extreme("integer_maximum", torch.maximum),
    _extreme("integer_minimum", torch.minimum),
)
