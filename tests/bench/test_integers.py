# SPDX-License-Identifier: Apache-2.0
"""The report of quantized networks: complete, and its arithmetic right. No speed is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import _peers
from _small_networks import LABELLED, NEEDY, SHAPE, UNLABELLED, build
from _tflite_cases import cases
from bittern.bench.core.store import from_json
from bittern.bench.core.timing import Spread
from bittern.bench.integers import run as bench
from bittern.bench.integers.networks import Filed
from bittern.bench.integers.peers import EXECUTORCH_INT8, LITERT, X86_INT8
from bittern.bench.integers.report import IntegersReport, slower
from bittern.bench.integers.resnet import ResNet20, resnet18, resnet50
from bittern.bench.speed.peers import CHANNELS_LAST, ONNX_INT8, OPENVINO_INT8, Peer
from bittern.bench.speed.rows import ONE_THREAD, Failure, SpeedRow

FILE = "network.tflite"
PEERS_HERE = (CHANNELS_LAST, _peers.RAISES, Peer("absent", _peers.raises, ("no_such_package",), "bench"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> IntegersReport:
    folder = tmp_path_factory.mktemp("data")
    (folder / FILE).write_bytes(next(iter(cases())).made()[0])
    chosen = (LABELLED, UNLABELLED, NEEDY, Filed("file", "File", FILE))
    return bench.run(
        (1, 2), command="bittern bench integers", data=folder, budget_s=0.001, chosen=chosen, peers=PEERS_HERE
    )


def test_every_row_is_there(report: IntegersReport) -> None:
    alone, both = ((CHANNELS_LAST.name, 1),), ((CHANNELS_LAST.name, 2), (ONE_THREAD, 2))
    assert [(row.network, row.peer, row.threads) for row in report.rows] == [
        *(("Small", *row) for row in (*alone, *both)),
        *(("Noise", *row) for row in (*alone, *both)),
        ("File", ONE_THREAD, 2),
    ]
    assert [row.target for row in report.rows] == [2.0, None, 1.7, None, None, 1.7, 1.7]
    assert from_json(IntegersReport, report.to_json()) == report


def test_what_could_not_be_compared_is_said(report: IntegersReport) -> None:
    why = "RuntimeError: no such operator, while it built its network"
    wanted = [Failure(name, bench.FLOAT_TWIN, "raises", n, why) for name in ("Small", "Noise") for n in (1, 2)]
    assert list(report.failures) == wanted
    assert report.missing == (
        "absent: no_such_package cannot be imported; pip install 'bittern[bench]'",
        "Needy: needs no_such_folder in the folder of --data",
    )
    text = str(report)
    assert all(f"failed: {failure}" in text for failure in wanted)
    assert all(f"left out: {line}" in text for line in report.missing)


def test_quality_is_of_the_packed_network(report: IntegersReport) -> None:
    labelled, noise = report.qualities
    assert labelled.float_bytes == 4 * (8 * 3 * 9 + 2 * 8 + 8 * 4 + 4)
    assert (labelled.inputs, noise.inputs) == (64, bench.NOISE)
    assert labelled.float_accuracy == 0.75
    assert noise.float_accuracy is noise.accuracy is None
    assert 30.0 < labelled.noise_db < 50.0
    assert labelled.agreement > 0.9
    assert labelled.accuracy is not None
    assert abs(labelled.accuracy - 0.75) <= 1.0 - labelled.agreement
    assert "75.00 %" in str(report)


def test_noise_in_decibels() -> None:
    wanted = torch.tensor([3.0, 4.0])
    assert bench.noise_db(wanted, wanted + torch.tensor([0.3, -0.4])) == pytest.approx(20.0, abs=1e-5)
    assert bench.noise_db(wanted, wanted) > 1000.0


def test_what_is_faster_is_named() -> None:
    def row(peer: str, ratio: float, threads: int = 1) -> SpeedRow:
        spreads = (Spread(t, t, t) for t in (1000.0, 1000.0 * ratio, ratio))
        return SpeedRow("Net", "twin", peer, threads, *spreads, None)

    said = list(slower([row("a", 0.9), row("b", 0.5), row("c", 3.0), row("a", 1.5, 2)]))
    assert said == [
        "Net, 1 thread(s): bittern's integers are not the fastest here; b takes 0.50 ms, 0.50 of bittern's time."
    ]


def test_resnets_are_those_of_the_paper() -> None:
    """As many parameters as torchvision's documentation has: 11,689,512 and 25,557,032."""
    with torch.device("meta"):
        counts = [sum(p.numel() for p in make().parameters()) for make in (resnet18, resnet50)]
        assert counts == [11_689_512, 25_557_032]
        assert [make()(torch.empty(2, 3, 224, 224)).shape for make in (resnet18, resnet50)] == [(2, 1000)] * 2
        assert ResNet20()(torch.empty(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.peers("executorch", "torchao", "onnx", "onnxruntime", "openvino")
@pytest.mark.parametrize("peer", [X86_INT8, EXECUTORCH_INT8, ONNX_INT8, OPENVINO_INT8], ids=lambda peer: peer.name)
def test_int8_of_others_is_near_the_float_network(peer: Peer) -> None:
    """So that it is the network that is timed."""
    model, x = build(None), torch.randn(1, *SHAPE)
    answer = torch.as_tensor(_first(peer.build(model, x)()))
    with torch.no_grad():
        assert bench.noise_db(model(x), answer) > 15.0


@pytest.mark.peers("ai_edge_litert")
def test_litert_runs_the_file(tmp_path: Path) -> None:
    data, _inputs = next(iter(cases())).made()
    (tmp_path / FILE).write_bytes(data)
    filed = Filed("file", "File", FILE)
    found = bench.run((1,), command="", data=tmp_path, budget_s=0.001, chosen=[filed], peers=[LITERT])
    assert [(row.peer, row.target) for row in found.rows] == [(LITERT.name, 1.5)]


def _first(answer: object) -> object:
    """Of engines that give a list, or a mapping."""
    if hasattr(answer, "values") and not isinstance(answer, torch.Tensor):
        return next(iter(answer.values()))
    return answer[0] if isinstance(answer, list | tuple) else answer
