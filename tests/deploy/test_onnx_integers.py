# SPDX-License-Identifier: Apache-2.0
"""Networks of integers as ONNX: which integers ONNX Runtime has otherwise, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from _tflite_cases import cases
from _tflite_more import more
from bittern.compat.tflite import load
from bittern.deploy import ExportError, Packed
from bittern.deploy.onnx import QONNX, IntegerReport, to_onnx
from bittern.deploy.onnx.integers import nodes
from bittern.deploy.program import Input, Node, Program

pytestmark = pytest.mark.peers("onnxscript", "onnxruntime")
CASES = {str(case): case for case in (*cases(), *more("int8"))}


def opened(label: str, folder: Path) -> tuple[Packed, Tensor]:
    data, x = CASES[label].made()
    (folder / "net.tflite").write_bytes(data)
    return load(folder / "net.tflite"), torch.from_numpy(x)


def by_runtime(path: Path, x: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_outputs()] == ["output"]
    return torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


ROUNDED = ("conv-same-stride23-dilation11", "depthwise-multiplier", "linear-activation3", "add-activation3", "chain")
EXACT = ("joined", "logistic", "prelu-6-int8", "maximum-int8", "conversion-back", "max_pool_2d-same-32-stride12")


@pytest.mark.parametrize("label", [*ROUNDED, *EXACT, "softmax-0.2-2.5-33", "conversion-real", "average-activation3"])
def test_the_report_counts_what_differs(label: str, tmp_path: Path) -> None:
    packed, x = opened(label, tmp_path)
    report = to_onnx(packed, tmp_path / "net.onnx", example=x)
    assert isinstance(report, IntegerReport)
    found, wanted = by_runtime(tmp_path / "net.onnx", x), packed(x)
    assert found.dtype == wanted.dtype
    assert report.different == int((found != wanted).sum())
    assert report.numbers == wanted.numel()
    assert all(layer.largest <= 1 for layer in report.layers)
    assert report.largest <= 2
    if label in EXACT:
        assert report.agrees
        assert "every integer is the same: yes" in str(report)
    by_itself = by_runtime(tmp_path / "net.onnx", x[:1])
    assert by_itself.shape == (1, *wanted.shape[1:])


def test_differences_are_told(tmp_path: Path) -> None:
    """Means of two numbers: every second half is rounded otherwise."""
    packed, x = opened("average_pool_2d-same-22-stride22", tmp_path)
    report = to_onnx(packed, tmp_path / "net.onnx", example=x)
    assert isinstance(report, IntegerReport)
    assert not report.agrees
    (layer,) = report.layers
    assert layer.different == report.different > 0
    assert f"{layer.different:,} of {layer.integers:,}, by at most 1" in str(report)


def test_without_an_example_it_is_compared_on_noise(tmp_path: Path) -> None:
    packed, _ = opened("chain", tmp_path)
    report = to_onnx(packed, tmp_path / "net.onnx")
    assert report is not None
    assert report.samples == 8
    assert to_onnx(packed, tmp_path / "other.onnx", verify=False) is None
    assert (tmp_path / "other.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, x = opened("joined", tmp_path)
    path = tmp_path / "net.onnx"
    with pytest.raises(ValueError, match="low_bit is for networks of signs and levels"):
        to_onnx(packed, path, low_bit=QONNX)
    made = (Node("dequantize", "real", (0,), 1, {"scale": 0.5, "zero": 0}), Node("relu", "relu", (1,), 2))
    mixed = Packed(Program(made, (Input("x", (3,), "int8"),), 2), {}, {}, torch.device("cpu"))
    with pytest.raises(ExportError, match=r"without other kinds of nodes.*this one has relu"):
        to_onnx(mixed, path, example=torch.zeros(2, 3, dtype=torch.int8))
    monkeypatch.setitem(nodes.NODES, "integer_max", lambda g, node, names, output: g.add("Neg", names, output))
    with pytest.raises(ExportError, match=r"\(integer_max\) is \d+ steps off; nothing was written"):
        to_onnx(packed, path, example=x)
    assert not path.exists()
