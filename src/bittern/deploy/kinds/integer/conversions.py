# SPDX-License-Identifier: Apache-2.0
"""Between real numbers and int8, and from one scale of int8 to another."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from bittern.deploy.form import Form, Tensors, need_real
from bittern.deploy.kinds.integer.parts import (
    INT8,
    LEAST,
    MOST,
    factor_at,
    factor_rules,
    int8_form,
    need_int8,
    zero_point,
)
from bittern.deploy.kinds.kind import Kind, Step, integer, number, real
from bittern.deploy.program import Node
from bittern.ops import integer_dequantize_reference, integer_quantize_reference
from bittern.ops.fixed_point import scaled


def _quantize_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x, 1)
    return int8_form(x.shape)


def _build_quantize(node: Node, tensors: Tensors, device: torch.device) -> Step:
    scale, zero = number(node, "scale"), integer(node, "zero")
    return partial(integer_quantize_reference, scale=scale, zero=zero)


QUANTIZE = Kind(
    name="quantize",
    attrs={"scale": real(least=1e-38), "zero": zero_point()},
    shape=_quantize_form,
    build=_build_quantize,
    low_bit=True,
)
"""round(x / scale) + zero, halves away from zero, between -128 and 127; of NaN 0."""


def _dequantize_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x)
    return Form(x.shape)


def _build_dequantize(node: Node, tensors: Tensors, device: torch.device) -> Step:
    scale, zero = number(node, "scale"), integer(node, "zero")
    return partial(integer_dequantize_reference, scale=scale, zero=zero)


DEQUANTIZE = Kind(
    name="dequantize",
    attrs={"scale": real(least=1e-38), "zero": zero_point()},
    shape=_dequantize_form,
    build=_build_dequantize,
    low_bit=True,
)
"""scale * (x - zero), rounded once."""


def _requantize_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x)
    return x


def _build_requantize(node: Node, tensors: Tensors, device: torch.device) -> Step:
    factor, zero, out_zero = factor_at(node), integer(node, "zero"), integer(node, "out_zero")

    def step(x: Tensor) -> Tensor:
        return (scaled(x.long() - zero, *factor) + out_zero).clamp(LEAST, MOST).to(INT8)

    return step


REQUANTIZE = Kind(
    name="requantize",
    attrs={"zero": zero_point(), "out_zero": zero_point(), **factor_rules()},
    shape=_requantize_form,
    build=_build_requantize,
    low_bit=True,
)
"""From one scale and zero point to others."""

CONVERSION_KINDS: tuple[Kind, ...] = (QUANTIZE, DEQUANTIZE, REQUANTIZE)
