# SPDX-License-Identifier: Apache-2.0
"""Networks that ONNX Runtime quantized, read into networks of integers; what is refused, and damaged files."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from _onnx_files import quantized
from bittern import load as load_packed
from bittern.compat.onnx import load
from bittern.deploy.kinds.table import KINDS

pytestmark = pytest.mark.peers("onnx", "onnxruntime")
STYLES = pytest.mark.parametrize("style", ["QDQ", "QOperator"])
ROUNDED_OTHERWISE = ("integer_average", "integer_mean")
"""Kinds of means, which round halves away from zero, or twice, where ONNX rounds halves to even."""


def by_runtime(model: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """All results, as the file says it: optimized kernels of some CPUs saturate sums of two products."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"input": x}), strict=True))


@STYLES
@pytest.mark.parametrize("per_channel", [False, True])
def test_node_by_node_integers_are_those_of_the_runtime(style: str, per_channel: bool, tmp_path: Path) -> None:
    import onnx

    path, x = quantized(tmp_path, style, per_channel=per_channel)
    packed, model = load(path), onnx.load(path)
    names = {node.output[0]: node.output[0] for node in model.graph.node}
    names |= {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    for name in set(names.values()) - {"output"}:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    found = by_runtime(model, x)
    values: dict[int, torch.Tensor] = {0: torch.from_numpy(x)}
    last = {node.name.split(".", 1)[1]: node.output for node in packed.program.nodes}
    rounded: set[int] = set()
    compared = []
    for node in packed.program.nodes:
        step = KINDS[node.kind].build(node, node.named(packed.tensors), torch.device("cpu"))
        values[node.output] = own = step(*(values[v] for v in node.inputs))
        name = node.name.split(".", 1)[1]
        wanted = found.get(names.get(name, ""))
        halves = node.kind in ROUNDED_OTHERWISE or not rounded.isdisjoint(node.inputs)
        if last[name] != node.output or wanted is None or wanted.dtype != np.int8 or wanted.shape != tuple(own.shape):
            rounded |= {node.output} if halves else set()
            continue
        apart = (own.int() - torch.from_numpy(wanted).int()).abs()
        assert int(apart.max()) <= int(halves), node
        values[node.output] = torch.from_numpy(wanted)
        compared.append(node.kind)
    assert {"integer_conv", "integer_add", "integer_linear", "integer_mean"} <= set(compared)
    assert_close(packed, by_runtime(onnx.load(path), x)["output"], x)


def assert_close(packed: Any, wanted: np.ndarray, x: np.ndarray) -> None:
    """A few halves of the average pool apart."""
    found, step = packed(torch.from_numpy(x)).numpy(), float(packed.info["output_scale"])
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 6 * step
    assert np.abs(wanted).max() > 40 * step


def test_it_is_a_packed_network(tmp_path: Path) -> None:
    path, x = quantized(tmp_path, "QDQ", per_channel=True)
    packed = load(path)
    packed.save(tmp_path / "net.bit")
    again = load_packed(tmp_path / "net.bit")
    assert torch.equal(again(torch.from_numpy(x)), packed(torch.from_numpy(x)))
    assert again.info["model"] == "net.onnx"


def unknown(model: Any) -> None:
    for node, name in zip(model.graph.node[:2], ("LSTM", "Cos"), strict=True):
        node.op_type = name


def outside(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="../secret")


def short(model: Any) -> None:
    tensor = next(t for t in model.graph.initializer if t.raw_data and len(t.dims))
    tensor.raw_data = tensor.raw_data[:-1]


def huge(model: Any) -> None:
    model.graph.initializer[0].dims.extend([2**31, 2**31])


def unwritten(model: Any) -> None:
    model.graph.node[0].input[0] = "nobody"


def no_quantization(model: Any) -> None:
    del model.graph.node[:]
    model.graph.node.add(op_type="Relu", input=["input"], output=["positive"])
    model.graph.initializer.add(name="one", data_type=1, float_data=[1.0])
    model.graph.node.add(op_type="QuantizeLinear", input=["positive", "one"], output=["output"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown, "it has operators that are not read: Cos, LSTM; there are QuantizeLinear"),
        (outside, "lies in another file; save the model with its numbers inside"),
        (short, r"tensor .* of .* has \d+ bytes"),
        (huge, "tensor .* has the shape"),
        (unwritten, r"operator 0 \(.*\): it reads 'nobody', which nothing wrote"),
        (no_quantization, r"operator 0 \(Relu\): it must follow an operator of integers"),
    ],
)
def test_refuses(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    import onnx

    path, _ = quantized(tmp_path, "QDQ", per_channel=False)
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(error.value).startswith(f"onnx: {path}: ")


@STYLES
def test_damaged_files_are_refused_or_read(style: str, tmp_path: Path) -> None:
    path, _ = quantized(tmp_path, style, per_channel=True)
    whole, r, errors = path.read_bytes(), random.Random(0), []
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(r.choice((1, 1, 2, 8))):
            data[r.randrange(len(data))] = r.choice((0, 1, 127, 128, 255, r.randrange(256)))
        if r.random() < 0.2:
            del data[r.randrange(len(data)) :]
        path.write_bytes(bytes(data))
        try:
            load(path)
        except ValueError as error:
            errors.append(str(error))
    assert errors
    assert all(error.startswith("onnx: ") for error in errors)
