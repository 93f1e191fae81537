# SPDX-License-Identifier: Apache-2.0
"""BATCH_MATMUL: products of two computed matrices of integers."""

from __future__ import annotations

import numpy as np

from bittern.compat.tflite.build import Builder, UnsupportedError, int8
from bittern.compat.tflite.file import Operator
from bittern.ops.fixed_point import factor_of


def matmul(builder: Builder, operator: Operator) -> None:
    """Either operand may be read with its last two dimensions exchanged; LiteRT multiplies their scales as floats."""
    a, b = (int8(builder.value(place)) for place in operator.inputs)
    out, given = int8(builder.value(operator.outputs[0])), operator.options
    turned = [given is not None and bool(given.number(field, "?", False)) for field in (0, 1)]
    if any(value.constant is not None for value in (a, b)):
        raise UnsupportedError("both its matrices must be computed; one is numbers of the file")
    if len(a.shape) < 3 or a.shape[:-2] != b.shape[:-2] or a.shape[0] != 1:
        raise UnsupportedError(f"its matrices must be as many, of one sample; got {list(a.shape)} and {list(b.shape)}")
    inputs = []
    for place, flipped in zip(operator.inputs, turned, strict=True):
        value, dims = builder.as_filed(place), len(a.shape)
        inputs.append(builder.permuted("turned", value, [*range(dims - 2), dims - 1, dims - 2]) if flipped else value)
    factor = factor_of(float(np.float32(a.scale) * np.float32(b.scale)) / out.scale)
    zeros = {"zero_a": a.zero, "zero_b": b.zero, "out_zero": out.zero, "low": -128, "high": 127, "once": False}
    builder.wrote(operator, builder.add("integer_matmul", out.name, inputs, **zeros, **factor._asdict()), image=False)
