# SPDX-License-Identifier: Apache-2.0
"""C code of networks of integers: the very integers of the packed model, and not a float."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from _c_integers import answers, floats_in
from _tflite_cases import cases
from _tflite_more import more
from _tflite_moves import moves
from _tolerance import assert_exact
from bittern.compat.tflite import load
from bittern.deploy import ExportError, Packed, to_c
from bittern.deploy.kinds.integer import INTEGER_KINDS
from bittern.deploy.kinds.integer.recurrent import RECURRENT_KINDS
from bittern.deploy.kinds.integer.wide import WIDE_KINDS
from bittern.deploy.program import Input, Node, Program

DATA = Path(os.environ.get("BITTERN_DATA", Path(__file__).parents[3] / "shared" / "data"))
CASES = {str(case): case for case in (*cases(), *more("int8"), *moves("int8"))}
COMPILED = (
    *("conv-same-stride23-dilation11", "conv-valid-stride11-dilation23", "conv-groups", "depthwise-multiplier"),
    *("linear-one scale-bias", "linear-scales-no bias", "linear-activation3", "add-activation0", "add-activation3"),
    *("average_pool_2d-same-32-stride12", "max_pool_2d-same-32-stride12", "average-activation3", "joined"),
    *("softmax-0.2-2.5-33", "softmax-0.003-1.0-4", "conversion-real", "conversion-int8", "conversion-back"),
    *("logistic", "chain", "softmax-rows", "matmul-False-True", "matmul-True-False", "blocks-int8"),
    *("bilinear-7-9-half-int8", "bilinear-12-8-first-int8", "bilinear-3-2-aligned-int8"),
)


def opened(label: str, folder: Path) -> tuple[Packed, Tensor]:
    data, x = CASES[label].made()
    (folder / "net.tflite").write_bytes(data)
    return load(folder / "net.tflite"), torch.from_numpy(x)


@pytest.mark.parametrize("label", COMPILED)
def test_every_operator(label: str, tmp_path: Path) -> None:
    packed, x = opened(label, tmp_path)
    assert_exact(answers(packed, tmp_path, x), packed(x).flatten(1))


def test_the_operators_have_every_kind(tmp_path: Path) -> None:
    found = {node.kind for label in COMPILED for node in opened(label, tmp_path)[0].program.nodes}
    elsewhere = {kind.name for kind in (*RECURRENT_KINDS, *WIDE_KINDS)}  # test_integer_recurrent
    assert found == {kind.name for kind in INTEGER_KINDS} - elsewhere | {"aten"}


@pytest.mark.data
@pytest.mark.parametrize("name", ["kws_dscnn", "ic_resnet8", "vww_mobilenet025"])
def test_networks_without_a_float(name: str, tmp_path: Path) -> None:
    path = DATA / "mlperf_tiny_models" / f"{name}_int8.tflite"
    if not path.is_file():
        pytest.skip("needs the real data sets")
    packed = load(path)
    x = torch.randint(-128, 128, (8, *packed.input_shape), dtype=torch.int8)
    assert_exact(answers(packed, tmp_path, x), packed(x))
    assert floats_in(tmp_path / "net.c") == []


def test_constants_are_counted_in_bytes(tmp_path: Path) -> None:
    packed, _ = opened("linear-scales-no bias", tmp_path)
    made = to_c(packed, tmp_path / "net.c")
    weight, factors, record = 20 * 33, 2 * 4 * 20, 4 * (3 + 4)
    assert made.constant_bytes == weight + factors + record
    assert (made.input_types, made.output_type, made.input_sizes, made.output_size) == (("int8",), "int8", (33,), 20)
    assert "void net_run(const int8_t *input, int8_t *output)" in str(made)


def refused(nodes: tuple[Node, ...], inputs: tuple[Input, ...], folder: Path, message: str) -> None:
    packed = Packed(Program(nodes, inputs, len(inputs) + len(nodes) - 1), {}, {}, torch.device("cpu"))
    with pytest.raises(ExportError, match=message):
        to_c(packed, folder / "net.c")
    assert not list(folder.iterdir())


def test_refuses_by_name(tmp_path: Path) -> None:
    x = (Input("x", (3, 4), "int8"),)
    flip = Node(
        "aten", "turned", (0,), 1, {"operator": "flip.default", "arguments": [{"input": 0, "order": [0, 1, 2]}, [1]]}
    )
    refused((flip,), x, tmp_path, r"'turned' .*flip\.default\) has no C code")
    order = {"operator": "permute.default", "arguments": [{"input": 0, "order": [0, 2, 1]}, [0, 2, 1]]}
    refused((Node("aten", "turned", (0,), 1, order),), x, tmp_path, "reads its input in another order")


@pytest.mark.parametrize("kind", ["integer_add", "integer_subtract", "integer_multiply", "integer_maximum"])
def test_what_repeats_itself_is_written_out(kind: str, tmp_path: Path) -> None:
    """A gate of one number a channel, and one of a number a pixel, both read of the image itself."""
    factors = {f"{p}{k}": v for p in ("a_", "b_", "") for k, v in (("multiplier", 2**30), ("shift", 0))}
    own = {"integer_add": factors, "integer_subtract": factors, "integer_multiply": {"multiplier": 2**30, "shift": -6}}
    limits = {"zero_a": 3, "zero_b": -5, "out_zero": 1, "low": -128, "high": 127}
    attrs = {**limits, **own[kind]} if kind in own else {}
    window = {"stride": [1, 1], "padding": [0] * 4, "low": -128, "high": 127}
    first = {"operator": "slice.Tensor", "arguments": [{"input": 0, "order": [0, 1, 2, 3]}, 1, 0, 1, 1]}
    made = (
        Node("integer_max", "gate", (0,), 1, {"kernel": [4, 5], **window}),
        Node(kind, "scaled", (0, 1), 2, attrs),
        Node("aten", "plane", (0,), 3, first),
        Node(kind, "again", (3, 2), 4, attrs),
    )
    packed = Packed(Program(made, (Input("x", (3, 4, 5), "int8"),), 4), {}, {}, torch.device("cpu"))
    x = torch.randint(-128, 128, (9, 3, 4, 5), dtype=torch.int8)
    assert_exact(answers(packed, tmp_path, x), packed(x).flatten(1))
