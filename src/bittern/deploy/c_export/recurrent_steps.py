# SPDX-License-Identifier: Apache-2.0
"""C code of recurrent layers of integers. An int16 lies in a word; of two results the state comes first, then bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bittern.deploy.c_export import recurrent_code as code
from bittern.deploy.c_export.plan import Step
from bittern.deploy.c_export.source import NULL, Fields, Source, scratch, value
from bittern.deploy.kinds.integer.recurrent import PRODUCTS
from bittern.deploy.kinds.kind import integer, number
from bittern.deploy.program import Node


def _hidden(c: Source, node: Node) -> int:
    return int(c.tensor(node, "recurrent_weight").shape[1])


def _numbers(of: str) -> str:
    """A pointer to words, as one to int16 numbers."""
    return f"(int32_t *){of}"


def needs(c: Source, step: Step) -> Sequence[tuple[str, int]]:
    """The state where nothing reads it, and the int8 twin of a GRU's initial state."""
    node, hidden = step.node, _hidden(c, step.node)
    state = [] if node.attrs["state"] else [("words", hidden)]
    return [*state, *([("bytes", hidden)] if node.kind == "integer_gru" and len(node.inputs) > 1 else [])]


def _gates(c: Source, node: Node, prefix: str) -> Fields:
    """Fields of `bt_gates`."""
    weight = c.tensor(node, f"{prefix}weight")
    roles = [f"{prefix}{role}" for role in ("bias", "multiplier", "shift")]
    arrays = [c.integers(node, role, c.tensor(node, role).tolist()) if role in node.tensors else NULL for role in roles]
    return [c.int8s(node, f"{prefix}weight", weight), *arrays, weight.shape[1], integer(node, PRODUCTS[prefix])]


def recurrent(c: Source, step: Step) -> str:
    """integer_lstm, integer_gru."""
    node, hidden = step.node, _hidden(c, step.node)
    function = code.LSTM if node.kind == "integer_lstm" else code.GRU
    keys = ("integer_bits", "exponent", "hidden_multiplier", "hidden_shift", "hidden_zero", "low", "high")
    clip = integer(node, "clip") if "clip" in node.attrs else 0
    steps = c.forms[node.inputs[0]].shape[1]
    cell: Fields = [steps, hidden, *(integer(node, key) for key in keys), clip, int(bool(node.attrs["reverse"]))]
    records = [c.record(node, function, "bt_cell", cell, role="cell")]
    records += [
        c.record(node, function, "bt_gates", _gates(c, node, prefix), role=f"{prefix}gates") for prefix in PRODUCTS
    ]
    x, *initial = map(value, node.inputs)
    y, state = value(node.output), _numbers(scratch(step))
    if node.attrs["state"]:
        y, state = f"(int8_t *)({y} + {hidden})", _numbers(y)
    if function is code.LSTM:
        before = [initial[0], _numbers(initial[1])] if initial else [NULL, NULL]
    else:
        first = scratch(step, 0 if node.attrs["state"] else 1)
        before = [_numbers(initial[0]), first] if initial else [NULL, NULL]
    return c.call(function, *records, x, *before, y, state)


def part(c: Source, step: Step) -> str:
    """One of the two results."""
    node = step.node
    count = math.prod(c.forms[node.output].shape)
    x, y = value(node.inputs[0]), value(node.output)
    if integer(node, "index") == 0:
        hidden = c.forms[node.output].shape[-1]
        return c.call(code.COPY_BYTES, count, f"(const int8_t *)({x} + {hidden})", y)
    return c.call(code.COPY_NUMBERS, count, _numbers(x), _numbers(y))


def quantize_16(c: Source, step: Step) -> str:
    node = step.node
    count = math.prod(c.forms[node.output].shape)
    scale = c.real(number(node, "scale"))
    return c.call(code.QUANTIZE_16, scale, count, value(node.inputs[0]), _numbers(value(node.output)))


def dequantize_16(c: Source, step: Step) -> str:
    node = step.node
    count = math.prod(c.forms[node.output].shape)
    scale = c.real(number(node, "scale"))
    return c.call(code.DEQUANTIZE_16, scale, count, _numbers(value(node.inputs[0])), value(node.output))
