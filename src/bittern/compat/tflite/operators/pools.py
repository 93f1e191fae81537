# SPDX-License-Identifier: Apache-2.0
"""Pools of integers."""

from __future__ import annotations

from bittern.compat.tflite.build import Builder
from bittern.compat.tflite.file import Operator
from bittern.compat.tflite.operators.common import int8, limits, need_dims, need_one_scale, options, paddings
from bittern.deploy.kinds.kind import IMAGE_DIMS


def average_pool(builder: Builder, operator: Operator) -> None:
    _pool(builder, operator, "integer_average")


def max_pool(builder: Builder, operator: Operator) -> None:
    _pool(builder, operator, "integer_max")


def _pool(builder: Builder, operator: Operator, kind: str) -> None:
    x, out = (int8(builder.value(place)) for place in (operator.inputs[0], operator.outputs[0]))
    need_dims(IMAGE_DIMS, x, out)
    need_one_scale(x, out)
    given = options(operator)
    stride, kernel = ([given.number(field, "i") for field in fields] for fields in ((2, 1), (4, 3)))
    padding = paddings(given.number(0, "b"), x, out, kernel, stride, (1, 1))
    held = limits(given.number(5, "b"), out)
    inputs = (builder.image(operator.inputs[0]),)
    value = builder.add(kind, out.name, inputs, kernel=kernel, stride=stride, padding=padding, **held)
    builder.wrote(operator, value, image=True)
