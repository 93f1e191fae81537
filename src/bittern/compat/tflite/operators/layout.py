# SPDX-License-Identifier: Apache-2.0
"""Operators that move numbers about and compute nothing."""

from __future__ import annotations

import math

from bittern.compat.tflite.build import Builder, UnsupportedError
from bittern.compat.tflite.file import Operator
from bittern.compat.tflite.operators.common import NONE, constant, int8, need_one_scale, options


def reshape(builder: Builder, operator: Operator) -> None:
    """RESHAPE, which keeps samples apart."""
    place = operator.inputs[0]
    x, out = builder.value(place), builder.value(operator.outputs[0])
    if x.shape[0] != 1 or not out.shape or out.shape[0] != 1 or math.prod(x.shape) != math.prod(out.shape):
        raise UnsupportedError(f"it must keep the batch of 1 first; it makes {list(out.shape)} of {list(x.shape)}")
    shape = [-1, *out.shape[1:]]
    value = builder.aten("reshape.default", out.name, (builder.as_filed(place),), len(x.shape), shape)
    builder.wrote(operator, value, image=False)


def pad(builder: Builder, operator: Operator) -> None:
    """PAD with zeros, which are the zero point."""
    place = operator.inputs[0]
    x, out = (int8(builder.value(p)) for p in (place, operator.outputs[0]))
    need_one_scale(x, out)
    amounts = builder.value(operator.inputs[1])
    rows = constant(amounts, amounts.type).tolist()
    if amounts.type not in ("int32", "int64") or len(rows) != len(x.shape) or any(rows[0]):
        raise UnsupportedError("its amounts must be whole numbers of the file, none of them along the batch")
    amount = [side for row in reversed(rows[1:]) for side in row]
    value = builder.aten("constant_pad_nd.default", out.name, (builder.as_filed(place),), len(x.shape), amount, x.zero)
    builder.wrote(operator, value, image=False)


def concatenate(builder: Builder, operator: Operator) -> None:
    """CONCATENATION of tensors of one scale."""
    values = [int8(builder.value(place)) for place in operator.inputs]
    out = int8(builder.value(operator.outputs[0]))
    need_one_scale(*values, out)
    given = options(operator)
    axis, dims = given.number(0, "i"), len(out.shape)
    if not -dims <= axis < dims or axis % dims == 0 or given.number(1, "b") != NONE or len(values) < 2:
        raise UnsupportedError(f"it must join two or more tensors along a dimension other than the batch; got {axis}")
    inputs = tuple(builder.as_filed(place) for place in operator.inputs)
    value = builder.aten("cat.default", out.name, inputs, dims, axis % dims)
    builder.wrote(operator, value, image=False)
