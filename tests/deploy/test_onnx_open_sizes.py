# SPDX-License-Identifier: Apache-2.0
"""Models whose sizes a call chooses as ONNX: the sizes are named dimensions, and every choice answers as packed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _open_sizes import CASES, Case
from _several_inputs import answers
from bittern.binary import BNN
from bittern.deploy import ExportError, Packed, pack, to_onnx
from bittern.deploy.onnx import QONNX, open_sizes
from bittern.deploy.parameters import ONE, arguments_of, bound
from bittern.deploy.part_by_part import RealReport, RuntimeReport
from bittern.deploy.size_expression import OPERATIONS, value_of
from bittern.deploy.verify_report import LayerReport
from bittern.nn import BinaryConv2d, BinaryLinear

written = pytest.mark.peers("onnxscript", "onnxruntime")


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def opened(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])


def assert_close(packed: Packed, session: Any, example: Any) -> None:
    """What ONNX Runtime, with its optimizations, gives is what the packed model gives, shapes and types included."""
    inputs = bound(packed.program.parameters, *arguments_of(example))
    names = ["input"] if packed.program.parameters == ONE else [given.name for given in packed.inputs]
    found = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
    for own, y in zip(answers(packed, example).values(), found, strict=True):
        torch.testing.assert_close(torch.from_numpy(y), own, rtol=1e-4, atol=1e-4)


@written
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_size_answers_as_packed(case: Case, tmp_path: Path) -> None:
    packed = pack(case.build().eval(), case.example(2, *case.packed_with), dynamic=case.dynamic)
    report = to_onnx(packed, tmp_path / "net.onnx", example=case.example(2, *case.packed_with))
    assert report is not None
    assert len(report.sizes) >= 3
    assert report.samples > 2
    session = opened(tmp_path / "net.onnx")
    for given, value in zip(packed.inputs, session.get_inputs(), strict=True):
        sizes: list[Any] = [*given.sizes]
        sizes.insert(given.batch or 0, "batch")
        assert value.shape == sizes
    for batch, sizes in enumerate((case.packed_with, *case.tried), 1):
        assert_close(packed, session, case.example(batch, *sizes))


class Mixed(nn.Module):
    """Images of odd sizes, strides and a mean over all that is left."""

    def __init__(self, end: Any) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3, 2, 1), BinaryConv2d(8, 9, 3, 2, 1, method=BNN)
        self.norm, self.head = nn.BatchNorm2d(9), nn.Linear(9, 4)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.end(self.norm(self.two(self.one(x)))))


def mixed(end: Any) -> Packed:
    dynamic = {2: torch.export.Dim("height", min=5, max=40), 3: "width"}
    return pack(Mixed(end).eval(), torch.randn(2, 3, 11, 8), dynamic=dynamic)


@written
def test_the_file_says_its_limits(tmp_path: Path) -> None:
    import onnx

    packed = mixed(lambda y: F.adaptive_avg_pool2d(y, 1).flatten(1))
    report = to_onnx(packed, tmp_path / "net.onnx")
    assert report is not None
    assert report.sizes[:2] == ("height=11, width=8", "height=5, width=1")
    assert "compared at height=11, width=8; height=5, width=1;" in str(report)
    session = opened(tmp_path / "net.onnx")
    for sizes in ((5, 9), (40, 31)):
        assert_close(packed, session, torch.randn(3, 3, *sizes))
    to_onnx(packed, tmp_path / "q.onnx", low_bit=QONNX, verify=False)
    for name in ("net.onnx", "q.onnx"):
        model = onnx.load(tmp_path / name)
        assert model.doc_string.startswith("height: 5 ... 40. width: at least 1.")
        limits = json.loads({entry.key: entry.value for entry in model.metadata_props}["bittern.sizes"])
        assert limits["sizes"] == {"height": {"least": 5, "most": 40}, "width": {"least": 1, "most": None}}
        (given,) = model.graph.input
        dims = [dim.dim_param or dim.dim_value for dim in given.type.tensor_type.shape.dim]
        assert dims == ["batch", 3, "height", "width"]
    assert sum(node.op_type == "BipolarQuant" for node in model.graph.node) == 2


@written
@pytest.mark.parametrize("fixed", [pytest.param(True, marks=pytest.mark.slow), False])
def test_layers_over_steps_are_onnxs_own(fixed: bool, tmp_path: Path) -> None:
    """Several layers, both directions, no biases, states that are given: not one node for each step."""
    import onnx

    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.LSTM(5, 4, 2, bidirectional=True)
            self.two = nn.GRU(8, 6, bias=False, batch_first=True)
            self.three, self.four = nn.RNN(6, 8, bidirectional=True), nn.RNN(16, 5, nonlinearity="relu")
            self.head = BinaryLinear(5, 3, method=BNN)

        def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, ...]:
            y, (last, _) = self.one(x)
            y, _ = self.two(y.transpose(0, 1))
            y, _ = self.three(y.transpose(0, 1))
            y, end = self.four(y, state)
            return self.head(y - 0.1), last, end

    def example(batch: int, length: int) -> tuple[Tensor, Tensor]:
        return torch.randn(length, batch, 5), torch.randn(1, batch, 5)

    packed = pack(Steps().eval(), example(2, 6), dynamic=None if fixed else {"x": {0: "length"}})
    report = to_onnx(packed, tmp_path / "net.onnx")
    assert report is not None
    assert report.agrees
    kinds = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]
    assert [kind for kind in kinds if kind in ("LSTM", "GRU", "RNN")] == ["LSTM", "LSTM", "GRU", "RNN", "RNN"]
    assert_close(packed, opened(tmp_path / "net.onnx"), example(3, 6 if fixed else 9))


@written
def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """By the name of its node, whether torch.onnx fails or ONNX Runtime gives something else at some size."""
    advice = r"packed\.at\(height=11, width=8\)"
    rolled = mixed(lambda y: torch.roll(y, (y.shape[2] // 2,), (2,)).mean((2, 3)))
    with pytest.raises(ExportError, match=rf"node 'roll' \(roll.default\) cannot be written .*height.*{advice}"):
        to_onnx(rolled, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


# -- without ONNX ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        ["//", ["*", -1, "width"], 4],
        ["//", ["+", "width", 4], 4],
        ["+", ["*", 3, "height"], ["%", "width", 4], -7],
        ["min", "width", ["max", "height", 9], 8],
    ],
)
def test_sizes_are_computed_as_the_program_does(expression: Any) -> None:
    assert set(open_sizes.OPERATIONS) == set(OPERATIONS)
    for width in (1, 7, 8):
        sizes = {"height": 5, "width": width}
        assert open_sizes._computed(expression, sizes) == value_of(expression, sizes)


def report(different: int, gap: float, sizes: str) -> RuntimeReport:
    layers, real = (LayerReport("a", 10, different),), (RealReport("b", gap, 1.0),)
    return RuntimeReport(layers, real, 2, 8, different, gap, 3.0, different).at(sizes)


def test_one_report_of_several_sizes() -> None:
    whole = report(0, 0.5, "length=1").with_more(report(1, 0.25, "length=2"))
    assert not whole.agrees
    assert whole.layers == (LayerReport("a", 20, 1),)
    assert whole.real == (RealReport("b", 0.5, 1.0),)
    assert (whole.samples, whole.signs, whole.max_difference, whole.answers_different) == (4, 16, 0.5, 1)
    assert str(whole).splitlines()[-1] == "compared at length=1; length=2"
    assert report(0, 0.5, "length=1").with_more(report(0, 1.0, "length=2")).agrees
