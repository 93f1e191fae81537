# SPDX-License-Identifier: Apache-2.0
"""Softmax of rows of integers."""

from __future__ import annotations

import math

from bittern.compat.tflite.build import Builder, UnsupportedError, int8
from bittern.compat.tflite.file import Operator
from bittern.compat.tflite.operators.common import options
from bittern.deploy.kinds.integer.softmax import MOST_ANSWERS
from bittern.ops.fixed_point import EXP_FRACTION_BITS, EXP_INTEGER_BITS, MOST, factor_of

SOFTMAX_SCALE, SOFTMAX_ZERO = 1 / 256, -128


def softmax(builder: Builder, operator: Operator) -> None:
    """SOFTMAX of rows."""
    x, out = (int8(builder.value(place)) for place in (operator.inputs[0], operator.outputs[0]))
    if len(x.shape) < 2 or x.shape[-1] > MOST_ANSWERS or (out.scale, out.zero) != (SOFTMAX_SCALE, SOFTMAX_ZERO):
        raise UnsupportedError(
            f"it takes rows of at most {MOST_ANSWERS}, and its result has the scale 1/256 about -128"
        )
    beta = options(operator).number(0, "f")
    factor = factor_of(min(beta * x.scale * 2**EXP_FRACTION_BITS, float(MOST)))
    if factor.shift < 0:
        raise UnsupportedError(f"its scale {x.scale:g} is too small")
    most = (2**EXP_INTEGER_BITS - 1) * 2.0**EXP_FRACTION_BITS / 2**factor.shift
    value = builder.add(
        "integer_softmax",
        out.name,
        (builder.as_filed(operator.inputs[0]),),
        multiplier=factor.multiplier,
        shift=factor.shift,
        least=max(-math.floor(most), -255),
    )
    builder.wrote(operator, value, image=False)
