# SPDX-License-Identifier: Apache-2.0
"""What Python fills and native code reads: every field and every number means the same on both sides.

The extension says where its compiler placed each field. Here the declarations are read once more, from the headers, so
that a field which the extension names wrongly is found, and two that were exchanged.
"""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest
import torch

from bittern import _native, ops
from bittern.ops.binary_block.layout import REAL_UNIT, ROWS, STEP, TAIL_UNIT, Activation, StepKind
from bittern.ops.integer_recurrent.cpu import LAYER, PRODUCT, UNIT
from bittern.ops.optimizer_step.layout import WORD, WORDS
from bittern.ops.optimizer_step.rules import Rule
from bittern.ops.real_linear.order import MOST_SUMS

OPS = Path(__file__).parents[2] / "src" / "bittern" / "ops"
FLOAT32 = 6
"""As a schema writes torch.float32."""
RECORDS = {
    "conv": ("binary_conv2d", "Conv2d"),
    "tail": ("binary_conv2d", "Tail"),
    "planes": ("binary_block", "Planes"),
    "encode": ("binary_block", "EncodeImage"),
    "pool": ("pool_images", "PoolImages"),
    "real": ("real_conv", "RealConv"),
    "input_scale": ("mean_magnitude", "InputScale"),
    "pool_bits": ("pool_bits", "PoolBits"),
    "concatenate_bits": ("concatenate_bits", "ConcatenateBits"),
    "linear": ("real_linear", "RealLinear"),
    "map": ("map_images", "MapImages"),
    "integer_conv": ("integer_conv", "IntegerConv"),
    "integer_add": ("integer_add", "IntegerAdd"),
    "integer_pool": ("integer_pool", "IntegerPool"),
    "integer_table": ("integer_table", "IntegerTable"),
    "integer_softmax": ("integer_softmax", "IntegerSoftmax"),
    "integer_mean": ("integer_mean", "IntegerMean"),
    "integer_quantize": ("integer_quantize", "IntegerQuantize"),
    "integer_dequantize": ("integer_dequantize", "IntegerDequantize"),
    "sizes": ("binary_block", "Sizes"),
}


def _in_schema(value: object) -> object:
    """A default of a record as a schema has it."""
    if isinstance(value, tuple):
        return list(value)
    return FLOAT32 if value is torch.float32 else value


def body(op: str, opening: str) -> str:
    """What stands between the braces behind `opening` in the op's headers, without comments."""
    text = "".join(path.read_text() for path in sorted((OPS / op).glob("*.h")))
    text = re.sub(r"//[^\n]*", "", text)
    found = re.search(rf"{re.escape(opening)} \{{(.*?)\}};", text, re.DOTALL)
    assert found, opening
    return found.group(1)


def declared(op: str, struct: str) -> list[tuple[str, int]]:
    """Each field of a struct whose fields are words, or arrays of them, with its words; in order."""
    fields = []
    for declaration in body(op, f"struct {struct}").split(";"):
        for one in declaration.split(","):
            name = re.search(r"(\w+)(?:\[(\d+)\])?(?:\s*=\s*\w+)?\s*$", one)
            if name:
                fields.append((name.group(1), int(name.group(2) or 1)))
    return fields


def enumerators(op: str, opening: str) -> list[str]:
    return [name for name in re.findall(r"\w+", body(op, opening)) if name not in ("count", "kTailRows")]


@pytest.mark.parametrize("part", RECORDS)
def test_a_record_has_the_declared_fields_in_their_places(part: str) -> None:
    fields = declared(*RECORDS[part])
    assert len(fields) > 3
    assert STEP[part].fields == {name: (np.dtype("<i8"), 8 * at) for at, (name, _) in enumerate(fields)}
    assert STEP[part].itemsize == 8 * len(fields)


def test_a_step_has_the_declared_records_in_their_places() -> None:
    fields = [name for name, _ in declared("binary_block", "ProgramStep")]
    assert fields == ["kind", *RECORDS]
    sizes = [STEP[name].itemsize for name in fields]
    offsets = [sum(sizes[:at]) for at in range(len(sizes))]
    assert STEP.fields == {name: (STEP[name], at) for name, at in zip(fields, offsets, strict=True)}
    assert STEP.itemsize == sum(sizes)


def test_a_tensor_of_a_step_has_the_declared_fields_in_their_places() -> None:
    at = 0
    for name, words in declared("optimizer_step", "StepTensor"):
        assert WORD[name] == at
        at += words
    assert at == WORDS
    assert len(WORD) == 12


def test_a_recurrent_layer_has_the_declared_fields_in_their_places() -> None:
    product = [name for name, _ in declared("integer_recurrent", "GateProduct")]
    assert PRODUCT.fields == {name: (np.dtype("<i8"), 8 * at) for at, name in enumerate(product)}
    layer = [name for name, _ in declared("integer_recurrent", "IntegerRecurrent")]
    assert layer[:2] == ["input", "recurrent"]
    sizes = [PRODUCT.itemsize, PRODUCT.itemsize, *[8] * (len(layer) - 2)]
    assert LAYER.fields == {name: (LAYER[name], sum(sizes[:at])) for at, name in enumerate(layer)}
    assert LAYER.itemsize == sum(sizes)


def test_names_that_the_extension_exports_are_complete() -> None:
    assert set(_native.step_fields()) == {"step", *RECORDS}


@pytest.mark.parametrize(
    ("op", "opening", "enum"),
    [
        ("binary_block", "enum class StepKind : i64", StepKind),
        ("binary_conv2d", "enum class Activation : i64", Activation),
        ("real_linear", "enum class TreePart : i64", ops.TreePart),
        ("optimizer_step", "enum class Rule : int", Rule),
    ],
)
def test_numbers_of_an_enumeration(op: str, opening: str, enum: type[IntEnum]) -> None:
    assert {name: number for number, name in enumerate(enumerators(op, opening))} == {
        one.name.lower(): int(one) for one in enum
    }


def test_rows_of_a_tail() -> None:
    words = [name.removeprefix("k") for name in enumerators("binary_conv2d", "enum TailRow : i64")]
    assert tuple(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", word).lower() for word in words) == ROWS


@pytest.mark.parametrize(
    ("op", "name", "value"),
    [
        ("binary_conv2d", "kTailUnit", TAIL_UNIT),
        ("real_conv", "kRealUnit", REAL_UNIT),
        ("real_linear", "kMostSums", MOST_SUMS),
        ("integer_conv", "kIntegerUnit", UNIT),
    ],
)
def test_units(op: str, name: str, value: int) -> None:
    assert f"constexpr i64 {name} = {value};" in (OPS / op / "kernel.h").read_text()


@pytest.mark.parametrize("op", ops.ALL, ids=lambda op: op.name)
def test_an_op_hands_on_what_its_schema_names(op: ops.Op) -> None:
    """All arguments in one record, defaults and all, where there are more than four."""
    arguments = op.overload._schema.arguments
    if op.record is None:
        assert len(arguments) <= 4
        return
    needed = [object() for argument in arguments if not argument.has_default_value()]
    record = op.record(*needed)
    assert record._fields == tuple(argument.name for argument in arguments)
    assert list(record[: len(needed)]) == needed
    defaults = [argument.default_value for argument in arguments[len(needed) :]]
    assert [_in_schema(value) for value in record[len(needed) :]] == defaults
