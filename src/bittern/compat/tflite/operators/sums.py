# SPDX-License-Identifier: Apache-2.0
"""Sums of two values of integers."""

from __future__ import annotations

from typing import Any

from bittern.compat.tflite.build import Builder, UnsupportedError
from bittern.compat.tflite.file import Operator
from bittern.compat.tflite.operators.common import NONE, int8, limits
from bittern.ops.fixed_point import factor_of
from bittern.ops.integer_add.reference import LEFT_SHIFT


def add(builder: Builder, operator: Operator) -> None:
    """ADD of two computed tensors."""
    places = operator.inputs
    a, b, out = (int8(builder.value(place)) for place in (*places, operator.outputs[0]))
    if a.constant is not None or b.constant is not None or len(a.shape) != len(b.shape):
        raise UnsupportedError("both of its inputs must be computed, of as many dimensions")
    larger = 2.0 * max(a.scale, b.scale)
    attrs: dict[str, Any] = {"zero_a": a.zero, "zero_b": b.zero, "out_zero": out.zero}
    for prefix, real in (
        ("a_", a.scale / larger),
        ("b_", b.scale / larger),
        ("", larger / (2**LEFT_SHIFT * out.scale)),
    ):
        attrs[f"{prefix}multiplier"], attrs[f"{prefix}shift"] = factor_of(real)
    image = all(builder.is_image(place) for place in places)
    taken = builder.image if image else builder.as_filed
    activation = operator.options.number(0, "b") if operator.options else NONE
    inputs = tuple(taken(place) for place in places)
    value = builder.add("integer_add", out.name, inputs, **attrs, **limits(activation, out))
    builder.wrote(operator, value, image=image)
