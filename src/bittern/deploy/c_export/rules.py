# SPDX-License-Identifier: Apache-2.0
"""How each kind of node becomes C code: one line per kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from bittern.deploy.c_export import (
    binary_step,
    bit_steps,
    integer_steps,
    layout_steps,
    level_steps,
    real_steps,
    recurrent_steps,
)
from bittern.deploy.c_export.elementwise import SIMPLE
from bittern.deploy.c_export.encode_step import encode
from bittern.deploy.c_export.plan import Step
from bittern.deploy.c_export.source import Source

Emit = Callable[[Source, Step], str]
"""One or more calls, a line each."""


def _no_memory(c: Source, step: Step) -> Sequence[tuple[str, int]]:
    return ()


class Rule(NamedTuple):
    """What a kind of node becomes."""

    emit: Emit
    in_place: bool = False
    """Whether it may write over an input of the same shape: it reads nothing there after it wrote."""
    needs: Callable[[Source, Step], Sequence[tuple[str, int]]] = _no_memory
    """(arena, size) of memory that it uses on the way."""


RULES: dict[str, Rule] = {
    "encode": Rule(encode),
    "binary": Rule(binary_step.binary, needs=binary_step.needs),
    "threshold": Rule(binary_step.binary_bits, needs=binary_step.needs),
    "pool_bits": Rule(bit_steps.pool_bits),
    "concatenate_bits": Rule(bit_steps.concatenate_bits),
    "factors": Rule(layout_steps.factors, in_place=True),
    "conv": Rule(real_steps.conv),
    "linear": Rule(real_steps.linear),
    "batch_norm": Rule(real_steps.batch_norm, in_place=True),
    "affine": Rule(real_steps.affine, in_place=True),
    "layer_norm": Rule(real_steps.layer_norm, in_place=True),
    "rprelu": Rule(real_steps.rprelu, in_place=True),
    "dprelu": Rule(real_steps.dprelu, in_place=True),
    "prelu": Rule(real_steps.prelu, in_place=True),
    "shifted_sign": Rule(real_steps.shifted_sign, in_place=True),
    "bias": Rule(real_steps.bias, in_place=True),
    "hardtanh": Rule(real_steps.hardtanh, in_place=True),
    "relu": Rule(real_steps.relu, in_place=True),
    "relu6": Rule(real_steps.relu6, in_place=True),
    "leaky_relu": Rule(real_steps.leaky_relu, in_place=True),
    "softmax": Rule(real_steps.softmax, in_place=True),
    **dict.fromkeys(SIMPLE, Rule(real_steps.simple, in_place=True)),
    **dict.fromkeys(("add", "subtract", "multiply"), Rule(layout_steps.two, in_place=True)),
    "constant": Rule(layout_steps.constant, in_place=True),
    "in_range": Rule(level_steps.in_range, in_place=True),
    "steps": Rule(level_steps.steps, in_place=True),
    "to_steps": Rule(level_steps.to_steps, in_place=True),
    "row_levels": Rule(level_steps.row_levels, in_place=True),
    "row_scale": Rule(level_steps.row_scale),
    "pool": Rule(layout_steps.pool),
    "adaptive_pool": Rule(layout_steps.adaptive_pool),
    "mean": Rule(layout_steps.mean),
    "permute": Rule(layout_steps.permute),
    "slice": Rule(layout_steps.slice_),
    "pad": Rule(layout_steps.pad),
    "concatenate": Rule(layout_steps.concatenate),
    "integer_conv": Rule(integer_steps.conv),
    "integer_linear": Rule(integer_steps.linear),
    "integer_add": Rule(integer_steps.add, needs=integer_steps.memory_of_repeats),
    "integer_subtract": Rule(integer_steps.add, needs=integer_steps.memory_of_repeats),
    "integer_multiply": Rule(integer_steps.multiply, needs=integer_steps.memory_of_repeats),
    "integer_maximum": Rule(integer_steps.extreme, needs=integer_steps.memory_of_repeats),
    "integer_minimum": Rule(integer_steps.extreme, needs=integer_steps.memory_of_repeats),
    "integer_mean": Rule(integer_steps.mean),
    "integer_transposed_conv": Rule(integer_steps.transposed_conv),
    "integer_matmul": Rule(integer_steps.matmul),
    "integer_resize": Rule(integer_steps.resize),
    "integer_average": Rule(integer_steps.pool),
    "integer_max": Rule(integer_steps.pool),
    "integer_softmax": Rule(integer_steps.softmax),
    "integer_table": Rule(integer_steps.table, in_place=True),
    "integer_tables": Rule(integer_steps.tables, in_place=True),
    "quantize": Rule(integer_steps.quantize),
    "dequantize": Rule(integer_steps.dequantize),
    "requantize": Rule(integer_steps.requantize),
    "quantize_16": Rule(recurrent_steps.quantize_16),
    "dequantize_16": Rule(recurrent_steps.dequantize_16),
    **dict.fromkeys(("integer_lstm", "integer_gru"), Rule(recurrent_steps.recurrent, needs=recurrent_steps.needs)),
    "part": Rule(recurrent_steps.part),
    "aten": Rule(integer_steps.moved),
}
"""By kind; flatten and reshape become nothing, they rename a value."""


def in_place(c: Source, step: Step) -> list[int]:
    """Inputs that the result of a step may lie on."""
    rule = RULES.get(step.node.kind)
    if rule is None or not rule.in_place:
        return []
    shape = c.forms[step.writes].shape
    # what repeats itself along a dimension is read again after its place was written
    return [v for v in step.reads if c.forms[v].shape == shape]
