# SPDX-License-Identifier: Apache-2.0
"""No native step touches memory beyond what it was told is there: it is refused before it runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from bittern import ops
from bittern.ops import SumTree, TreePart
from bittern.ops.binary_block.layout import STEP, StepKind
from bittern.ops.fixed_point import Factor, factor_of

Made = tuple[np.ndarray, list[object]]
"""Records, and what keeps their memory alive."""


def bits(*size: int, border: int = 0, planes: int = 1) -> ops.BitImages:
    return ops.BitImages.empty(2, *size, border, planes)


def convolution(border: int = 1, planes: int = 1, weight_planes: int = 1, groups: int = 1) -> Made:
    out = 40 if groups == 1 else 16
    w = torch.zeros(weight_planes, out, 3, 3, 2 if groups == 1 else 1, dtype=torch.int64)
    block = ops.PreparedBlock(
        w,
        70,
        (1, 1),
        (1, 1),
        (1, 1),
        groups,
        0,
        torch.ones(4, out),
        residual=ops.ResidualRule(pool=2),
        threshold=torch.zeros(out),
        factor=torch.ones(5, 6, out),
    )
    x, residual, scale = bits(5, 6, 70, border=border, planes=planes), torch.ones(2, 9, 12, out), torch.ones(2, 5, 6)
    real, result = torch.empty(2, 5, 6, out), bits(5, 6, out)
    return block.step(x, residual, real, result, scale), [block, x, residual, real, result, scale]


def encoding(planes: int = 1, planar: bool = False) -> Made:
    x, result = torch.ones(2, 5, 6, 70), bits(5, 6, 70, planes=planes)
    if planar:
        x = torch.ones(2, 70, 5, 6).permute(0, 2, 3, 1)
    threshold, affine = (torch.zeros(70), torch.ones(2, 70)) if planes == 1 else (None, None)
    return ops.encode_step(x, threshold, result, affine), [x, threshold, result, affine]


def pool(lanes: int = 0) -> Made:
    x, affine = torch.ones(2, 5, 6, 7), torch.ones(2, 7)
    out = torch.empty(2, 1, 1, 7) if lanes else torch.empty(2, 3, 3, 7)
    rule = ops.PoolRule(average=False, kernel=(3, 2), stride=(2, 2), padding=(1, 0))
    record = ops.mean_step(x.shape, out, lanes) if lanes else ops.pool_step(rule, x.shape, out, affine)
    record["pool"]["x"], record["sizes"]["input"] = x.data_ptr(), ops.bytes_of(x)
    return record, [x, affine, out]


def real(pooled: bool) -> Made:
    order = ops.SumOrder(channels_first=False, chain=18)
    conv = ops.PreparedRealConv(torch.ones(5, 2, 3, 3), (1, 1), (1, 1), (1, 1), order, torch.ones(2, 5), (0.0, 6.0))
    x, out = torch.ones(2, 4, 6, 2), torch.empty(2, 2, 3, 5) if pooled else torch.empty(2, 4, 6, 5)
    rule = ops.PoolRule(average=False, kernel=(2, 2), stride=(2, 2), padding=(0, 0))
    return (conv.pooled_step(x, rule, out) if pooled else conv.step(x, out)), [conv, x, out]


def linear() -> Made:
    parts = ((TreePart.BIAS, 0), (TreePart.EXTEND, 3), (TreePart.START, 4), (TreePart.ADD, 0))
    product = ops.PreparedRealLinear(torch.ones(5, 7), torch.ones(5), SumTree(parts, (6, 5, 4, 3, 2, 1, 0)))
    x, out = torch.ones(2, 7), torch.empty(2, 5)
    record = product.step(2, out)
    record["linear"]["x"], record["sizes"]["input"] = x.data_ptr(), ops.bytes_of(x)
    return record, [product, x, out]


def mapping() -> Made:
    operations = (ops.MapOperation.ADD_RESIDUAL, ops.MapOperation.MULTIPLY_FACTOR, ops.MapOperation.RELU)
    steps = [ops.MapStep(ops.MapOperation.AFFINE, torch.ones(2, 7)), *map(ops.MapStep, operations)]
    prepared = ops.PreparedMap(steps, 7)
    x, residual, factor, out = torch.ones(2, 5, 6, 7), torch.ones(2, 5, 6, 7), torch.ones(2, 7), torch.empty(2, 5, 6, 7)
    record = prepared.step(x.shape, out, 30, 1)
    for name, role, operand in (("x", "input", x), ("residual", "residual", residual), ("factor", "factor", factor)):
        record["map"][name], record["sizes"][role] = operand.data_ptr(), ops.bytes_of(operand)
    return record, [prepared, x, residual, factor, out]


def pool_of_bits() -> Made:
    x, out, flip = bits(5, 6, 70), bits(3, 3, 70), torch.zeros(2, dtype=torch.int64)
    return ops.pool_bits_step((3, 2), (2, 2), (1, 0), flip, x, out), [x, out, flip]


def concatenation() -> Made:
    parts, out = [bits(5, 6, 70, planes=2), bits(5, 6, 3, planes=2)], bits(5, 6, 73, planes=2)
    return ops.concatenate_bits_steps(parts, out), [parts, out]


def input_scale(window: ops.Window | None) -> Made:
    x, means, out = torch.ones(2, 70, 5, 6), torch.empty(2, 5, 6), torch.empty(2, 3, 6)
    return ops.input_scale_step(x.permute(0, 2, 3, 1), window, means, out), [x, means, out]


def integer_conv(groups: int = 1, weight: int = 100) -> Made:
    row, geometry = torch.ones(6, dtype=torch.int32), ops.IntegerGeometry((1, 2), (1, 1, 1, 0), (1, 1), groups)
    w = torch.full((6, 6 // groups, 3, 3), weight, dtype=torch.int8)
    conv = ops.PreparedIntegerConv(w, row, row, -row, ops.IntegerEnds(0, 0), geometry)
    x = torch.ones(2, 5, 6, 6, dtype=torch.int8)
    out = torch.empty(2, *conv.output_size(5, 6), 6, dtype=torch.int8)
    return told(conv.step(x.shape, out), "integer_conv", x=x), [conv, x, out]


def told(record: np.ndarray, part: str, **operands: Tensor) -> np.ndarray:
    """The record with the addresses and bytes of what it reads."""
    for name, operand in operands.items():
        record[part][name] = operand.data_ptr()
        record["sizes"]["input" if name == "x" else name] = ops.bytes_of(operand)
    return record


def integer_add() -> Made:
    x, out = torch.ones(37, dtype=torch.int8), torch.empty(37, dtype=torch.int8)
    factor = factor_of(0.5)
    record = ops.integer_add_step(ops.IntegerSum(0, 0, 0, factor, factor, factor), out)
    return told(record, "integer_add", x=x, residual=x), [x, out]


def integer_pool() -> Made:
    x, out = torch.ones(2, 5, 6, 7, dtype=torch.int8), torch.empty(2, 2, 3, 7, dtype=torch.int8)
    record = ops.integer_pool_step(ops.IntegerPoolRule(True, (3, 2), (2, 2)), x.shape, out)
    return told(record, "integer_pool", x=x), [x, out]


def integer_table() -> Made:
    x, table, out = (torch.ones(n, dtype=torch.int8) for n in (37, 256, 37))
    return told(ops.integer_table_step(table, out), "integer_table", x=x), [x, table, out]


def integer_softmax() -> Made:
    x, out = torch.ones(2, 5, dtype=torch.int8), torch.empty(2, 5, dtype=torch.int8)
    softmax = ops.PreparedIntegerSoftmax(Factor(2**30, 20), -128)
    return told(softmax.step(out), "integer_softmax", x=x), [softmax, x, out]


def integer_mean() -> Made:
    x, out = torch.ones(2, 5, 6, 7, dtype=torch.int8), torch.empty(2, 7, dtype=torch.int8)
    record = ops.integer_mean_step(ops.IntegerMeanRule(3, -3, factor_of(0.01)), x.shape, out)
    return told(record, "integer_mean", x=x), [x, out]


def integer_quantize(planar: bool = False) -> Made:
    x, out = torch.ones(2, 5, 6, 7), torch.empty(2, 5, 6, 7, dtype=torch.int8)
    if planar:
        x = torch.ones(2, 7, 5, 6).permute(0, 2, 3, 1)
    quantize = ops.PreparedIntegerQuantize(0.1, 3)
    return quantize.step(x, out), [quantize, x, out]


def integer_dequantize() -> Made:
    x, out = torch.ones(37, dtype=torch.int8), torch.empty(37)
    dequantize = ops.PreparedIntegerDequantize(0.1, 3)
    return told(dequantize.step(out), "integer_dequantize", x=x), [dequantize, x, out]


MAKERS: dict[str, Callable[[], Made]] = {
    "convolution": convolution,
    "planes": lambda: convolution(border=0, planes=2, weight_planes=3),
    "groups": lambda: convolution(groups=2),
    "encode": encoding,
    "levels": lambda: encoding(3),
    "planar encode": lambda: encoding(planar=True),
    "planar levels": lambda: encoding(3, planar=True),
    "pool": pool,
    "mean": lambda: pool(8),
    "real": lambda: real(False),
    "real_pool": lambda: real(True),
    "linear": linear,
    "input_scale": lambda: input_scale(ops.Window((3, 3), (2, 1), (1, 2), (1, 2))),
    "sample input_scale": lambda: input_scale(None),
    "map": mapping,
    "pool_bits": pool_of_bits,
    "concatenate_bits": concatenation,
    "integer_conv": integer_conv,
    "integer depthwise": lambda: integer_conv(6),
    "integer nibbles": lambda: integer_conv(weight=7),
    "integer_add": integer_add,
    "integer_pool": integer_pool,
    "integer_table": integer_table,
    "integer_softmax": integer_softmax,
    "integer_mean": integer_mean,
    "integer_quantize": integer_quantize,
    "planar integer_quantize": lambda: integer_quantize(planar=True),
    "integer_dequantize": integer_dequantize,
}
SIZES = STEP["sizes"].names or ()


def run(records: np.ndarray) -> None:
    ops.run_steps(ops.chosen_isa(), records)


@pytest.mark.parametrize("name", MAKERS)
def test_every_byte_that_is_touched_must_be_there(name: str) -> None:
    records, kept = MAKERS[name]()
    run(records)
    for index in range(len(records)):
        for role in SIZES:
            given = int(records["sizes"][role][index])
            exact = role != "factor" and name != "concatenate_bits"  # room behind them, or the next plane
            for bytes_ in {0, given - 1 if exact else 0} if given else ():
                less = records.copy()
                less["sizes"][role][index] = bytes_
                with pytest.raises(RuntimeError, match=rf"step {index} of kind .* was planned wrongly"):
                    run(less)
    assert kept


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("value", [-1, 2**62, -(2**63)])
def test_no_number_is_believed(name: str, value: int) -> None:
    """Numbers that no step has, in place of those that are no address."""
    records, kept = MAKERS[name]()
    part = (
        {"levels": "encode", "mean": "pool", "real_pool": "real"}.get(name, name)
        .removeprefix("planar ")
        .removeprefix("sample ")
    )
    part = {"integer depthwise": "integer_conv", "integer nibbles": "integer_conv"}.get(part, part)
    part = {"levels": "encode"}.get(part, part)
    part = part if part in (STEP.names or ()) else "conv"
    planes = (
        {"input_words", "weight_bytes", "plane_words"} if name not in ("planes", "levels", "planar levels") else set()
    )
    addresses = {"x", "input", "weights", "threshold", "bits", "affine", "out", "limits", "flip", "means"}
    addresses |= {"bias", "products", "scale", "tree", "residual", "factor", "operations", "table", "exps"}
    addresses |= set() if name == "integer_softmax" else {"rows"}
    addresses |= {"epilogue", "output", "tail"}  # unused in a program
    addresses |= {"average", "count_padding", "channels_first", "fused"}  # only compared with 0
    unused = {"pixel_words", "first_bit"} if name.endswith("levels") else set()  # where levels stand is their own
    signed = {
        "pad_value",
        "zero",
        "zero_a",
        "zero_b",
        "out_zero",
        "low",
        "high",
        "a_shift",
        "b_shift",
        "shift",
        "least",
        "last_factor",
    }
    for field in set(STEP[part].names or ()) - addresses - planes - unused:
        if field in signed and value == -1:
            continue
        changed = records.copy()
        changed[part][field][0] = value
        with pytest.raises(RuntimeError, match="planned wrongly"):
            run(changed)
    assert kept


def test_an_unknown_kind_and_a_missing_address() -> None:
    records, kept = encoding()
    records["kind"] = max(StepKind) + 1
    with pytest.raises(RuntimeError, match="its kind"):
        run(records)
    records, kept = encoding()
    records["encode"]["x"] = 0
    with pytest.raises(RuntimeError, match="its input"):
        run(records)
    assert kept


def test_a_prepared_product_refuses_inputs_of_another_depth() -> None:
    words = torch.zeros(4, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="must have 2 words"):
        ops.PreparedMatmul(words, 70)(torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="must have 2 words"):
        ops.PreparedConv2d(words.view(4, 1, 1, 2), 70, (1, 1), (0, 0), (1, 1))(
            torch.zeros(1, 1, 1, 3, dtype=torch.int64)
        )
    with pytest.raises(ValueError, match="must have 70 numbers"):
        ops.PreparedPack(torch.zeros(70))(Tensor([1.0]))
