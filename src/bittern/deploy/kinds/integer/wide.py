# SPDX-License-Identifier: Apache-2.0
"""Between real numbers and int16, which the state of a recurrent layer is: real = scale * integer, about 0."""

from __future__ import annotations

import torch

from bittern.deploy.form import BATCHES, Form, Shape, Tensors, need, need_real
from bittern.deploy.kinds.kind import Kind, Step, number, real
from bittern.deploy.program import Node
from bittern.ops.fixed_point import rounded_away

INT16 = torch.int16
LEAST, MOST = -(2**15), 2**15 - 1


def int16_form(shape: Shape) -> Form:
    """An int16 value of one sample [1, ...]."""
    fewer, more = (torch.empty((n * shape[0], *shape[1:]), dtype=INT16, device="meta") for n in BATCHES)
    return Form(shape, "int16", meta=(fewer, more))


def need_int16(node: Node, x: Form) -> None:
    """Refuse what is no int16 value [batch, ...]."""
    need(node, x.type == "int16", f"it takes an int16 value; got {x.type}")
    need(node, x.samples_first, f"it takes [batch, ...]; got {list(x.shape)} for one sample, and the batch elsewhere")


def _quantize_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_real(node, x, 1)
    return int16_form(x.shape)


def _build_quantize(node: Node, tensors: Tensors, device: torch.device) -> Step:
    scale = number(node, "scale")
    return lambda x: rounded_away(x / scale).clamp(LEAST, MOST).to(INT16)


QUANTIZE_16 = Kind(
    name="quantize_16",
    attrs={"scale": real(least=1e-38)},
    shape=_quantize_form,
    build=_build_quantize,
    low_bit=True,
)
"""round(x / scale), halves away from zero, between -32768 and 32767."""


def _dequantize_form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int16(node, x)
    return Form(x.shape)


def _build_dequantize(node: Node, tensors: Tensors, device: torch.device) -> Step:
    scale = number(node, "scale")
    return lambda x: x.float() * scale


DEQUANTIZE_16 = Kind(
    name="dequantize_16",
    attrs={"scale": real(least=1e-38)},
    shape=_dequantize_form,
    build=_build_dequantize,
    low_bit=True,
)
"""scale * x, rounded once; exact where the scale is a power of two."""

WIDE_KINDS: tuple[Kind, ...] = (QUANTIZE_16, DEQUANTIZE_16)
