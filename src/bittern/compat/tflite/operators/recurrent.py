# SPDX-License-Identifier: Apache-2.0
"""UNIDIRECTIONAL_SEQUENCE_LSTM of int8 with an int16 cell state.

Which tensors it reads stands in the order of lstm_shared.h. States are variables that LiteRT keeps between calls; a
call here begins as one does behind `reset_all_variables`, with states of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bittern.compat.tflite.build import Builder, UnsupportedError, int8, need_dims
from bittern.compat.tflite.file import Operator, Value
from bittern.compat.tflite.operators.common import constant, options
from bittern.ops.fixed_point import Factor, factor_of

INPUT, RECURRENT, BIAS = range(1, 5), range(5, 9), range(12, 16)
"""Of the input, forget, cell and output gate."""
PEEPHOLES, PROJECTION, NORMS = range(9, 12), range(16, 18), range(20, 24)
HIDDEN_STATE, CELL_STATE, FEWEST, MOST = 18, 19, 20, 24
TANH = 4
HIDDEN = 4
"""Which intermediate tensor says how o * tanh(c) is scaled."""
GATE_SCALE = 2.0**-12


def lstm(builder: Builder, operator: Operator) -> None:
    """All gates, batch first, without peepholes, projection and norms."""
    given = options(operator)
    absent = [place for place in (*INPUT, *RECURRENT, *BIAS) if operator.inputs[place] < 0]
    more = [place for place in (*PEEPHOLES, *PROJECTION, *NORMS) if place < len(operator.inputs)]
    if absent or any(operator.inputs[place] >= 0 for place in more):
        raise UnsupportedError(
            "an LSTM is read with four gates, each with a bias, and without peepholes, a projection and norms"
        )
    if given.number(0, "b") != TANH or given.number(3, "b") or given.number(5, "b"):
        raise UnsupportedError("an LSTM must have the activation TANH, the batch first, and full recurrent weights")
    x, out, hidden = (
        int8(builder.value(p)) for p in (operator.inputs[0], operator.outputs[0], operator.inputs[HIDDEN_STATE])
    )
    need_dims(3, x, out)
    if (hidden.scale, hidden.zero) != (out.scale, out.zero):
        raise UnsupportedError("the result and the hidden state of an LSTM must have one scale and zero point")
    exponent, clip = _cell_state(builder.value(operator.inputs[CELL_STATE]), given.number(1, "f", 0.0))
    factor = _hidden_factor(builder, operator, out)
    tensors: dict[str, Tensor | None] = {**_product(builder, operator, INPUT, x, BIAS, "")}
    tensors |= _product(builder, operator, RECURRENT, out, (), "recurrent_")
    value = builder.add(
        "integer_lstm",
        out.name,
        (builder.as_filed(operator.inputs[0]),),
        tensors,
        zero=x.zero,
        hidden_zero=out.zero,
        integer_bits=3,
        exponent=exponent,
        hidden_multiplier=factor.multiplier,
        hidden_shift=factor.shift,
        low=-128,
        high=127,
        clip=clip,
        reverse=False,
        state=False,
    )
    builder.wrote(operator, value, image=False)


def _product(
    builder: Builder, operator: Operator, places: Sequence[int], x: Value, biases: Sequence[int], prefix: str
) -> dict[str, Tensor]:
    """Rows of all gates; the scales of a gate are multiplied as floats."""
    weights = [builder.value(operator.inputs[place]) for place in places]
    rows, factors = [], []
    for weight in weights:
        numbers = constant(int8(weight), "int8")
        need_dims(2, weight)
        if weight.zero:
            raise UnsupportedError(f"weight {weight.name!r} must have a zero point of 0")
        real = float(np.float32(weight.scale) * np.float32(x.scale) / np.float32(GATE_SCALE))
        rows.append(numbers)
        factors += [factor_of(real)] * len(numbers)
    if len({tuple(numbers.shape) for numbers in rows}) > 1:
        raise UnsupportedError("the weights of an LSTM's gates must have one shape")
    found = {
        f"{prefix}weight": torch.cat(rows),
        f"{prefix}multiplier": torch.tensor([f.multiplier for f in factors], dtype=torch.int32),
        f"{prefix}shift": torch.tensor([f.shift for f in factors], dtype=torch.int32),
    }
    if biases:
        found["bias"] = torch.cat([constant(builder.value(operator.inputs[place]), "int32") for place in biases])
    return found


def _cell_state(state: Value, clip: float) -> tuple[int, int]:
    """(the exponent of its scale, within which integers it is held; 0: anything)."""
    if state.type != "int16" or len(state.scales) != 1 or state.zero:
        raise UnsupportedError(f"the cell state {state.name!r} must be int16 with one scale about 0")
    fraction, exponent = math.frexp(state.scale)
    if fraction != 0.5 or not -15 <= exponent - 1 <= -9:
        raise UnsupportedError(f"the scale of the cell state must be 2^-15 ... 2^-9; got {state.scale!r}")
    limit = float(np.float32(clip) / np.float32(state.scale))
    return exponent - 1, int(min(max(limit, 0.0), 32767.0))


def _hidden_factor(builder: Builder, operator: Operator, out: Value) -> Factor:
    """From o * tanh(c), with 30 bits behind the point, to the result."""
    if len(operator.intermediates) <= HIDDEN:
        raise UnsupportedError(f"an int8 LSTM has {HIDDEN + 1} intermediate tensors; got {len(operator.intermediates)}")
    hidden = builder.value(operator.intermediates[HIDDEN])
    if len(hidden.scales) != 1 or hidden.zero != out.zero:
        raise UnsupportedError("o * tanh(c) of an LSTM must have one scale, and the zero point of the result")
    return factor_of(float(np.float32(2.0**-15 / hidden.scale * 2.0**-15)))
