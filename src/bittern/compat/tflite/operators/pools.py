# SPDX-License-Identifier: Apache-2.0
"""Pools and means of integers."""

from __future__ import annotations

import math

from bittern.compat.tflite.build import Builder, UnsupportedError, int8, need_dims
from bittern.compat.tflite.file import Operator
from bittern.compat.tflite.operators.common import limits, need_one_scale, options, paddings, whole_numbers
from bittern.compat.tflite.operators.layout import CHANNELS_FIRST_DIM
from bittern.deploy.kinds.integer.means import factor_of_mean
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


def mean(builder: Builder, operator: Operator) -> None:
    """MEAN along dimensions other than the batch."""
    place = operator.inputs[0]
    x, out = (int8(builder.value(p)) for p in (place, operator.outputs[0]))
    dims = len(x.shape)
    axes = sorted({axis % dims for axis in whole_numbers(builder.value(operator.inputs[1]))})
    if not axes or axes[0] == 0 or out.shape[:1] != (1,):
        raise UnsupportedError(f"it must leave the batch alone; got dimensions {axes} of {dims}")
    keep = bool(options(operator).number(0, "?", False))
    image = builder.is_image(place) and (keep or axes == [1, 2])  # else what is left would lie in another order
    multiplier, shift = factor_of_mean(x.scale / out.scale, math.prod(x.shape[axis] for axis in axes))
    value = builder.add(
        "integer_mean",
        out.name,
        (builder.taken(place, image=image),),
        dims=sorted(CHANNELS_FIRST_DIM[axis] for axis in axes) if image else axes,
        keep=keep,
        zero=x.zero,
        out_zero=out.zero,
        low=-128,
        high=127,
        multiplier=multiplier,
        shift=shift,
    )
    builder.wrote(operator, value, image=image and keep)
