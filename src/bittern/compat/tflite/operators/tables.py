# SPDX-License-Identifier: Apache-2.0
"""Operators that change every number by itself: their 256 answers, worked out as LiteRT's reference kernels do.

LOGISTIC, TANH, EXP and GELU are tables in LiteRT too, made in float32; the others compute in fixed point. Formulas:
LiteRT, kernels/activations.cc, internal/reference/{hard_swish,leaky_relu}.h (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bittern.compat.tflite.build import Builder, UnsupportedError, int8, need_dims
from bittern.compat.tflite.file import Operator, Value
from bittern.compat.tflite.operators.common import constant, options, quantized
from bittern.deploy.kinds.integer.table import every_int8
from bittern.deploy.kinds.kind import IMAGE_DIMS
from bittern.ops.fixed_point import factor_of, rounded_shift, scaled

Floats = npt.NDArray[np.float32]
F32 = np.float32
LEAST, MOST = -128, 127


def _single(function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], x: Floats) -> Floats:
    """A function in float32, rounded right: from float64."""
    return function(x.astype(np.float64)).astype(F32)


def _logistic(x: Floats) -> Floats:
    return F32(1) / (F32(1) + _single(np.exp, -x))


def _gelu(x: Floats) -> Floats:
    return F32(0.5) * x * (F32(1) + _single(np.vectorize(math.erf, otypes=[np.float64]), x * F32(math.sqrt(0.5))))


def _gelu_by_tanh(x: Floats) -> Floats:
    inner = F32(math.sqrt(2 / math.pi)) * (x + F32(0.044715) * x * x * x)
    return F32(0.5) * x * (F32(1) + _single(np.tanh, inner))


def _by_float(function: Callable[[Floats], Floats], x: Value, out: Value) -> Tensor:
    """scale * (x - zero), its function and the division by the scale in float32, rounded to the nearest."""
    real = F32(x.scale) * (every_int8() - x.zero).numpy().astype(F32)
    steps = (function(real) * (F32(1) / F32(out.scale))).astype(np.float64)
    if np.isnan(steps).any():
        raise UnsupportedError(f"its scales {x.scale:g} and {out.scale:g} leave the range of float32")
    whole = np.copysign(np.floor(np.abs(steps) + 0.5), steps)
    return torch.from_numpy(np.clip(whole + out.zero, LEAST, MOST).astype(np.int8))


def _ended(x: Tensor, out: Value, low: int = LEAST, high: int = MOST) -> Tensor:
    return (x + out.zero).clamp(low, high).to(torch.int8)


def _single_ratio(*numbers: float) -> float:
    """The first number times those in the middle over the last, each step in float32."""
    *factors, divisor = (F32(number) for number in numbers)
    return float(np.prod(np.array(factors, F32), dtype=F32) / divisor)


# -- fixed point -------------------------------------------------------------------------------------------------


def _bounded(low: float, high: float) -> Callable[[Operator, Value, Value], Tensor]:
    """RELU and its like: another scale, then limits."""

    def table(operator: Operator, x: Value, out: Value) -> Tensor:
        own = scaled(every_int8() - x.zero, *factor_of(_single_ratio(x.scale, out.scale)))
        most = MOST if high == math.inf else min(MOST, quantized(high, out))
        return _ended(own, out, max(LEAST, quantized(low, out)), most)

    return table


def _abs(operator: Operator, x: Value, out: Value) -> Tensor:
    return _ended(scaled((every_int8() - x.zero).abs(), *factor_of(_single_ratio(x.scale, out.scale))), out)


def _leaky_relu(operator: Operator, x: Value, out: Value) -> Tensor:
    slope = options(operator).number(0, "f")
    if not 0 <= slope < math.inf:
        raise UnsupportedError(f"its slope must be a number from 0 on; got {slope}")
    centred = every_int8() - x.zero
    rising = scaled(centred, *factor_of(_single_ratio(x.scale, out.scale)))
    return _ended(
        torch.where(centred >= 0, rising, scaled(centred, *factor_of(_single_ratio(x.scale, slope, out.scale)))), out
    )


HIRES_BITS = 7
"""Bits by which HARD_SWISH raises its input."""
RELUISH_SCALE = F32(3) / F32(2**15)
"""Of relu6(x + 3) / 6, an int16: -3 to 3 fill it."""


def _held16(x: Tensor) -> Tensor:
    return x.clamp(-(2**15), 2**15 - 1)


def _upper_half(multiplier: int) -> int:
    """An int32 factor as an int16, rounded."""
    return min((multiplier + 2**15) >> 16, 2**15 - 1)


def _high_product16(a: Tensor, b: int) -> Tensor:
    """a * b / 2^15 of int16, to the nearest, halves upward."""
    product = a * b
    return _held16(torch.div(product + torch.where(product >= 0, 2**14, 1 - 2**14), 2**15, rounding_mode="trunc"))


def _hard_swish(operator: Operator, x: Value, out: Value) -> Tensor:
    """x relu6(x + 3) / 6 in int16; where the second factor is above 1, it saturates one bit before it is complete."""
    hires = F32(2.0**-HIRES_BITS) * F32(x.scale)
    own, reluish = factor_of(float(hires / F32(out.scale))), factor_of(float(hires / RELUISH_SCALE))
    if own.shift > 0:
        raise UnsupportedError(f"its result has the scale {out.scale:g}, too small for {x.scale:g}")
    raised = (every_int8() - x.zero) << HIRES_BITS
    first = _high_product16(raised, _upper_half(own.multiplier))
    second = _held16(raised << max(reluish.shift - 1, 0))
    second = _high_product16(second, _upper_half(reluish.multiplier))
    second = _held16(second << 1) if reluish.shift > 0 else rounded_shift(second, -reluish.shift)
    second = (second + 2**15) >> 1
    product = torch.div(second * first, 2**15, rounding_mode="trunc")
    return _ended(rounded_shift(product, -own.shift), out)


def _of(function: Callable[[Floats], Floats]) -> Callable[[Operator, Value, Value], Tensor]:
    return lambda operator, x, out: _by_float(function, x, out)


def _gelu_table(operator: Operator, x: Value, out: Value) -> Tensor:
    approximate = operator.options is not None and operator.options.number(0, "?", False)
    return _by_float(_gelu_by_tanh if approximate else _gelu, x, out)


TABLES: dict[str, Callable[[Operator, Value, Value], Tensor]] = {
    "LOGISTIC": _of(_logistic),
    "TANH": _of(lambda x: _single(np.tanh, x)),
    "EXP": _of(lambda x: _single(np.exp, x)),
    "GELU": _gelu_table,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky_relu,
    "RELU": _bounded(0.0, math.inf),
    "RELU6": _bounded(0.0, 6.0),
    "RELU_N1_TO_1": _bounded(-1.0, 1.0),
    "RELU_0_TO_1": _bounded(0.0, 1.0),
    "ABS": _abs,
}
"""By the names of the schema: (operator, what it reads, what it writes) -> int8 [256]."""


def read(builder: Builder, operator: Operator) -> None:
    """An operator that changes every number by itself."""
    place = operator.inputs[0]
    x, out = (int8(builder.value(p)) for p in (place, operator.outputs[0]))
    if x.shape != out.shape:
        raise UnsupportedError(f"it must keep the shape {list(x.shape)}; got {list(out.shape)}")
    image = builder.is_image(place)
    inputs = ((builder.image if image else builder.as_filed)(place),)
    with np.errstate(all="ignore"):  # infinity is an answer like others
        table = TABLES[operator.name](operator, x, out)
    value = builder.add("integer_table", out.name, inputs, {"table": table})
    builder.wrote(operator, value, image=image)


def prelu(builder: Builder, operator: Operator) -> None:
    """PRELU with a slope for each channel of an image: a table a channel."""
    place = operator.inputs[0]
    x, slope, out = (int8(builder.value(p)) for p in (*operator.inputs, operator.outputs[0]))
    need_dims(IMAGE_DIMS, x, out)
    slopes = constant(slope, "int8")
    if slopes.numel() not in (1, x.shape[-1]) or slopes.shape[-1:] != (slopes.numel(),):
        raise UnsupportedError(f"its slopes must be one a channel, or one; got {list(slopes.shape)}")
    centred = every_int8() - x.zero
    with np.errstate(all="ignore"):
        rising = factor_of(_single_ratio(x.scale, out.scale))
        falling = factor_of(_single_ratio(x.scale, slope.scale, out.scale))
    below = scaled(centred * (slopes.long().view(-1, 1) - slope.zero), *falling)
    tables = _ended(torch.where(centred >= 0, scaled(centred, *rising), below), out).expand(x.shape[-1], -1)
    value = builder.add("integer_tables", out.name, (builder.image(place),), {"tables": tables.contiguous()})
    builder.wrote(operator, value, image=True)
