# SPDX-License-Identifier: Apache-2.0
"""Softmax from int8 to int8 without a float: exp and the reciprocal of the sum in fixed point, as LiteRT has them.

The result is scale 1/256 about -128, the one that TensorFlow Lite allows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.deploy.form import Form, Tensors
from bittern.deploy.kinds.integer.parts import INT8, LEAST, MOST, factor_at, factor_rules, int8_form, need_int8
from bittern.deploy.kinds.kind import Kind, Step, count, integer
from bittern.deploy.program import Node
from bittern.ops.fixed_point import doubling_high_product, exp_of_negative, reciprocal_of_one_plus, rounded_shift

SUM_INTEGER_BITS = 12
"""Of the sum of the exponentials: up to 4,095 answers."""
MOST_ANSWERS = 2**SUM_INTEGER_BITS - 1


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x, 2)
    return int8_form(x.shape)


def _bits(x: Tensor) -> Tensor:
    """How many bits a number from 1 to 2^32 - 1 has."""
    return torch.frexp(x.double()).exponent.long()


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    multiplier, shift = factor_at(node)
    least = integer(node, "least")

    def step(x: Tensor) -> Tensor:
        below = x.long() - x.long().amax(1, keepdim=True)
        counts = below >= least
        exponent = doubling_high_product(below.clamp(min=least) << shift, multiplier)
        exp = exp_of_negative(exponent)
        total = torch.where(counts, rounded_shift(exp, SUM_INTEGER_BITS), 0).sum(1, keepdim=True)
        bits = _bits(total)
        over_one = bits - (32 - SUM_INTEGER_BITS)
        reciprocal = reciprocal_of_one_plus((total << (32 - bits)) - 2**31)
        found = rounded_shift(doubling_high_product(reciprocal, exp), over_one + 31 - 8) + LEAST
        return torch.where(counts, found.clamp(LEAST, MOST), LEAST).to(INT8)

    return step


SOFTMAX = Kind(
    name="integer_softmax",
    attrs={**factor_rules(), "least": count(-255, 0)},
    shape=_form,
    build=_build,
    low_bit=True,
    working=lambda node, tensors, inputs, form: 8 * 24 * form.elements,
)
"""softmax(beta * scale * x) of rows [batch, answers]; the factor is beta * scale * 2^26, and differences to the largest
below `least` count as 0."""
