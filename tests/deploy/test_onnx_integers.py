# SPDX-License-Identifier: Apache-2.0
"""Networks of integers as ONNX: which integers ONNX Runtime has otherwise, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _tflite_cases import cases
from _tflite_more import more
from bittern.compat.tflite import load
from bittern.deploy import ExportError, Packed
from bittern.deploy.onnx import QONNX, IntegerReport, to_onnx
from bittern.deploy.onnx.integers import islands, nodes
from bittern.ptq import quantize

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
    monkeypatch.setitem(nodes.NODES, "integer_max", lambda g, node, names, output: g.add("Neg", names, output))
    with pytest.raises(ExportError, match=r"\(integer_max\) is \d+ steps off; nothing was written"):
        to_onnx(packed, path, example=x)
    assert not path.exists()


class Mixed(nn.Module):
    """Norms, which stay float, and a recurrent layer, which can, between products and sums of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.cell, self.last = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = y + F.relu(self.second(self.norm(y)))
        z, _ = self.cell(y)
        return self.last(F.layer_norm(z, (5,)).mean(1))


def test_what_stays_float_is_written_between_integers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = Mixed(), torch.randn(12, 4, 6)
    network = quantize(model, x, keep=["cell"])
    assert {"norm", "cell"} <= {row.name for row in network.report.kept_float}
    packed = network.pack()
    report = to_onnx(packed, tmp_path / "net.onnx", example=x)
    assert isinstance(report, IntegerReport)
    assert sum(layer.different for layer in report.layers) <= 3
    assert max(layer.largest for layer in report.layers) <= 1
    found = by_runtime(tmp_path / "net.onnx", x)
    assert float((found - packed(x)).abs().max()) <= 2 * network.grids[network.units[-1].output].scale
    assert by_runtime(tmp_path / "net.onnx", x[:1]).shape == (1, 3)


def test_an_island_that_is_off_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    packed = quantize(Mixed(), torch.randn(12, 4, 6), keep=["cell"]).pack()
    monkeypatch.setattr(islands, "MOST_APART", -1.0)
    with pytest.raises(ExportError, match=r"stays float and is .* off; nothing was written"):
        to_onnx(packed, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()


def test_integers_without_operators_of_onnx_are_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    packed = quantize(Mixed(), torch.randn(12, 4, 6)).pack()
    with pytest.raises(ExportError, match=r"node 'cell\.l0' \(integer_lstm\) has no operators of ONNX.*keep="):
        to_onnx(packed, tmp_path / "net.onnx")
    assert not (tmp_path / "net.onnx").exists()
