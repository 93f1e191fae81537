# SPDX-License-Identifier: Apache-2.0
"""Functions of two values of integers: differences, products, extremes. With one number of the file they are tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bittern.compat.tflite.build import Builder, UnsupportedError, int8
from bittern.compat.tflite.file import Operator, Value
from bittern.compat.tflite.operators.common import NONE, limits, need_one_scale
from bittern.deploy.kinds.integer.table import every_int8
from bittern.deploy.kinds.kind import IMAGE_DIMS
from bittern.deploy.kinds.table import KINDS
from bittern.deploy.program import Node
from bittern.ops.fixed_point import factor_of
from bittern.ops.integer_add.reference import LEFT_SHIFT

Attrs = Mapping[str, Any]


def _factor(prefix: str, real: float) -> dict[str, int]:
    multiplier, shift = factor_of(real)
    return {f"{prefix}multiplier": multiplier, f"{prefix}shift": shift}


def _zeros(a: Value, b: Value, out: Value) -> dict[str, int]:
    return {"zero_a": a.zero, "zero_b": b.zero, "out_zero": out.zero}


def _of_sum(a: Value, b: Value, out: Value) -> dict[str, int]:
    """Of ADD and SUB."""
    larger = 2.0 * max(a.scale, b.scale)
    factors = (("a_", a.scale / larger), ("b_", b.scale / larger), ("", larger / (2**LEFT_SHIFT * out.scale)))
    return _zeros(a, b, out) | {key: n for prefix, real in factors for key, n in _factor(prefix, real).items()}


def _of_product(a: Value, b: Value, out: Value) -> dict[str, int]:
    """Scales are multiplied as floats."""
    with np.errstate(all="ignore"):
        return _zeros(a, b, out) | _factor("", float(np.float32(a.scale) * np.float32(b.scale) / np.float32(out.scale)))


def _of_extreme(a: Value, b: Value, out: Value) -> dict[str, int]:
    need_one_scale(a, b, out)
    return {}


PAIRS: dict[str, tuple[str, Callable[[Value, Value, Value], dict[str, int]]]] = {
    "ADD": ("integer_add", _of_sum),
    "SUB": ("integer_subtract", _of_sum),
    "MUL": ("integer_multiply", _of_product),
    "MAXIMUM": ("integer_maximum", _of_extreme),
    "MINIMUM": ("integer_minimum", _of_extreme),
}
"""By the names of the schema: the kind of node, and its factors and zero points."""


def read(builder: Builder, operator: Operator) -> None:
    """Of two computed tensors, or of one and numbers of the file, one for all or one a channel."""
    kind, attributes = PAIRS[operator.name]
    a, b, out = (int8(builder.value(place)) for place in (*operator.inputs, operator.outputs[0]))
    attrs = attributes(a, b, out)
    if "low" in KINDS[kind].attrs:
        attrs |= limits(operator.options.number(0, "b") if operator.options else NONE, out)
    computed = [place for place in operator.inputs if builder.value(place).constant is None]
    if len(computed) == 1:
        _with_numbers(builder, operator, kind, attrs)
        return
    if not computed or len(a.shape) != len(b.shape):
        raise UnsupportedError("its inputs must be computed, of as many dimensions, or one of them numbers of the file")
    image = builder.all_images(computed)
    inputs = tuple(builder.taken(place, image=image) for place in computed)
    builder.wrote(operator, builder.add(kind, out.name, inputs, **attrs), image=image)


def _with_numbers(builder: Builder, operator: Operator, kind: str, attrs: Attrs) -> None:
    """One value and one number of the file, or one a channel: a table of its 256 answers, or one a channel."""
    a, b, out = (builder.value(place) for place in (*operator.inputs, operator.outputs[0]))
    value, fixed = (b, a) if b.constant is None else (a, b)
    place = operator.inputs[0 if value is a else 1]
    numbers = fixed.constant
    assert numbers is not None
    per_channel = numbers.numel() > 1
    if per_channel and (numbers.numel() != numbers.shape[-1] or numbers.shape[-1] != value.shape[-1]):
        raise UnsupportedError(f"the numbers of {fixed.name!r} must be one, or one a channel; got {list(fixed.shape)}")
    if value.shape != out.shape or (per_channel and len(out.shape) not in (2, IMAGE_DIMS)):
        raise UnsupportedError(f"it must keep the shape {list(value.shape)} of an image or of rows; got {out.shape}")
    each, own = every_int8().to(torch.int8).repeat(numbers.numel(), 1), numbers.view(-1, 1)
    first, second = (own, each) if value is b else (each, own)
    tables = _answers(kind, attrs, first.expand_as(each), second.expand_as(each))
    image = builder.is_image(place) or (per_channel and len(out.shape) == IMAGE_DIMS)
    inputs = (builder.taken(place, image=image),)
    if per_channel:
        made = builder.add("integer_tables", out.name, inputs, {"tables": tables})
    else:
        made = builder.add("integer_table", out.name, inputs, {"table": tables[0]})
    builder.wrote(operator, made, image=image)


def _answers(kind: str, attrs: Attrs, a: Tensor, b: Tensor) -> Tensor:
    """What a kind of node gives for two tensors of one shape."""
    step = KINDS[kind].build(Node(kind, kind, (0, 1), 2, dict(attrs), {}), {}, torch.device("cpu"))
    found: Tensor = step(a.contiguous(), b.contiguous())
    return found.contiguous()
