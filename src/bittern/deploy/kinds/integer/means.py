# SPDX-License-Identifier: Apache-2.0
"""Means of int8 values along some of their dimensions, in another scale."""

from __future__ import annotations

import math
from functools import partial

import torch

from bittern.deploy.form import Form, Tensors, need
from bittern.deploy.kinds.integer.parts import (
    LIMITS,
    SUM_BYTES,
    factor_at,
    factor_rules,
    int8_form,
    need_int8,
    zero_point,
)
from bittern.deploy.kinds.kind import Kind, Step, flag, integer, integers, sizes
from bittern.deploy.program import Node
from bittern.ops import IntegerMeanRule, integer_mean_reference
from bittern.ops.fixed_point import Factor, factor_of

MOST_SHIFT, LEAST_SHIFT = 32, -31
MOST_NUMBERS = 2**23
"""Whose sum int32 holds, whatever they are."""


def factor_of_mean(real: float, count: int) -> Factor:
    """The fixed-point factor of a mean of `count` numbers, from the sum: that of the scales, divided.

    The multiplier is raised by the bits of `count` before the division, which cuts off, as TensorFlow Lite's does
    (reference/reduce.h).
    """
    multiplier, shift = factor_of(real)
    raised = min(count.bit_length() - 1, MOST_SHIFT, shift - LEAST_SHIFT)
    return Factor((multiplier << raised) // count, shift - raised)


def _form(node: Node, tensors: Tensors, x: Form) -> Form:
    need_int8(node, x)
    dims, keep = integers(node, "dims"), node.attrs["keep"]
    need(
        node, dims == sorted(set(dims)) and dims[-1:] < [len(x.shape)], f"its dimensions {dims} must rise, and be there"
    )
    count = math.prod(x.shape[dim] for dim in dims)
    need(node, 1 <= count <= MOST_NUMBERS, f"it takes means of 1 to {MOST_NUMBERS} numbers; got {count}")
    shape = tuple(1 if dim in dims else n for dim, n in enumerate(x.shape) if keep or dim not in dims)
    return int8_form(shape)


def mean_rule(node: Node) -> IntegerMeanRule:
    zero, out_zero, low, high = (integer(node, key) for key in ("zero", "out_zero", "low", "high"))
    return IntegerMeanRule(zero, out_zero, factor_at(node), low, high)


def _build(node: Node, tensors: Tensors, device: torch.device) -> Step:
    dims, keep = integers(node, "dims"), bool(node.attrs["keep"])
    return partial(integer_mean_reference, rule=mean_rule(node), dims=dims, keep=keep)


MEAN = Kind(
    name="integer_mean",
    attrs={
        "dims": sizes(1, 2, 3, 4, least=1),
        "keep": flag(default=False),
        "zero": zero_point(),
        "out_zero": zero_point(),
        **LIMITS,
        **factor_rules(),
    },
    shape=_form,
    build=_build,
    low_bit=True,
    working=lambda node, tensors, inputs, form: 3 * SUM_BYTES * inputs[0].elements + 8 * SUM_BYTES * form.elements,
)
"""zero + M sum (x - zero_x) along dimensions other than the batch; the factor divides by how many they are."""
