# SPDX-License-Identifier: Apache-2.0
"""Softmax from int8 to int8 without a float: exp and the reciprocal of the sum in fixed point, as LiteRT has them.

The result is scale 1/256 about -128, the one that TensorFlow Lite allows.
"""

from __future__ import annotations

from functools import partial

import torch

from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.parts import factor_at, factor_rules, int8_form, need_int8
from bittern.deploy.kinds.kind import Kind, Step, count, integer
from bittern.deploy.program import Node
from bittern.ops import PreparedIntegerSoftmax, integer_softmax_reference
from bittern.ops.integer_softmax.reference import SUM_INTEGER_BITS

MOST_ANSWERS = 2**SUM_INTEGER_BITS - 1


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x)
    need(node, len(x.shape) > 1, f"it takes rows [batch, ..., answers]; got {list(x.shape)}")
    need(node, x.shape[-1] <= MOST_ANSWERS, f"it takes at most {MOST_ANSWERS} answers; got {x.shape[-1]}")
    return int8_form(x.shape)


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    factor, least = factor_at(node), integer(node, "least")
    run: Step = partial(integer_softmax_reference, factor=factor, least=least)
    if device.type == "cpu":
        run = PreparedIntegerSoftmax(factor, least)
    return lambda x: run(x.reshape(-1, x.shape[-1])).view(x.shape)


SOFTMAX = Kind(
    name="integer_softmax",
    attrs={**factor_rules(), "least": count(-255, 0)},
    shape=_form,
    build=_build,
    low_bit=True,
    working=lambda node, tensors, inputs, form: 8 * 24 * form.elements,
)
"""softmax(beta * scale * x) of rows [batch, ..., answers]; the factor is beta * scale * 2^26, and differences to the
largest below `least` count as 0."""
