# SPDX-License-Identifier: Apache-2.0
"""Between real numbers and integers, and from one scale to another."""

from __future__ import annotations

from bittern.compat.tflite.build import Builder, int8
from bittern.compat.tflite.file import Operator
from bittern.ops.fixed_point import factor_of


def quantize(builder: Builder, operator: Operator) -> None:
    """QUANTIZE: of real numbers, or from one scale of int8 to another."""
    place = operator.inputs[0]
    x, out = builder.value(place), int8(builder.value(operator.outputs[0]))
    image = builder.is_image(place)
    inputs = ((builder.image if image else builder.as_filed)(place),)
    if x.type == "float32":
        value = builder.add("quantize", out.name, inputs, scale=out.scale, zero=out.zero)
    else:
        multiplier, shift = factor_of(int8(x).scale / out.scale)
        value = builder.add(
            "requantize", out.name, inputs, zero=x.zero, out_zero=out.zero, multiplier=multiplier, shift=shift
        )
    builder.wrote(operator, value, image=image)


def dequantize(builder: Builder, operator: Operator) -> None:
    place = operator.inputs[0]
    x, out = int8(builder.value(place)), builder.value(operator.outputs[0])
    image = builder.is_image(place)
    inputs = ((builder.image if image else builder.as_filed)(place),)
    value = builder.add("dequantize", out.name, inputs, scale=x.scale, zero=x.zero)
    builder.wrote(operator, value, image=image)
