# SPDX-License-Identifier: Apache-2.0
"""The report of packed networks against other engines: complete, and its arithmetic right. No speed is asserted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

import _peers
from bittern import _native, binary, deploy
from bittern.bench.core.machine import this_machine
from bittern.bench.core.store import from_json
from bittern.bench.core.timing import Comparison, Spread
from bittern.bench.speed import networks as speed_networks
from bittern.bench.speed import run as bench
from bittern.bench.speed.accuracy import points_of, points_table
from bittern.bench.speed.contest import Contest
from bittern.bench.speed.layers import CALLS, LayerRow, kernels, peak_gmac_s
from bittern.bench.speed.memory import MemoryRow
from bittern.bench.speed.mobilenet import mobilenet_v1, mobilenet_v2, mobilenet_v3_large
from bittern.bench.speed.networks import Network, Twin, networks
from bittern.bench.speed.peers import AUTOCAST, CHANNELS_LAST, ONNX_FP32, OPENVINO_INT8, PEERS, Peer
from bittern.bench.speed.plot import latencies_svg
from bittern.bench.speed.report import NetworkLayers, SpeedReport
from bittern.bench.speed.rows import ITSELF, ONE_THREAD, Failure, SpeedRow
from bittern.deploy.interpreter import Interpreter
from bittern.models import resnet20_cifar, vgg_small
from bittern.nn.summary import summary
from bittern.ops import Isa, available_isas, chosen_isa
from bittern.recipes.published import Published

ONE = Spread(1.0, 1.0, 1.0)


SMALL = (
    Network(
        "vgg",
        "VGG, 8 x 8",
        lambda: vgg_small(binary.ReCU, input_size=8, width=8),
        (3, 8, 8),
        (Twin("float", partial(vgg_small, input_size=8, width=8), {CHANNELS_LAST.name: 2.0}),),
        file_limit_mib=1.0,
    ),
    Network(
        "resnet20",
        "ResNet-20, 8 x 8",
        lambda: resnet20_cifar(binary.BNN),
        (3, 8, 8),
        (Twin("float", resnet20_cifar),),
        memory_share_limit=1.0,
    ),
)
PEERS_HERE = (CHANNELS_LAST, _peers.RAISES, Peer("absent", _peers.raises, ("no_such_package",), "bench"))


@pytest.fixture(scope="module")
def told() -> list[str]:
    return []


@pytest.fixture(scope="module")
def report(told: list[str]) -> SpeedReport:
    return bench.run(
        (1, 2),
        command="bittern bench speed",
        budget_s=0.001,
        chosen=SMALL,
        peers=PEERS_HERE,
        kernels=((3, 64), (2, 128)),
        on_row=told.append,
    )


def test_every_row_is_there(report: SpeedReport, told: list[str]) -> None:
    assert [(row.network, row.threads, row.twin, row.peer) for row in report.rows] == [
        (network.title, threads, twin, peer)
        for network in SMALL
        for threads in (1, 2)
        for twin, peer in (
            ("float", CHANNELS_LAST.name),
            (ITSELF, bench.OWN_BF16),
            *([(ITSELF, ONE_THREAD)] if threads == 2 else []),
        )
    ]
    assert [figure.subject for figure in report.figures] == ["VGG, 8 x 8: file"]
    assert [row.network for row in report.memory] in (["ResNet-20, 8 x 8"], [])  # not every system tells
    assert any(_peers.RAISES.name in subject for subject in told)


def test_what_could_not_be_compared_is_said(report: SpeedReport) -> None:
    assert report.missing == ("absent: no_such_package cannot be imported; pip install 'bittern[bench]'",)
    why = "RuntimeError: no such operator, while it built its network"
    assert report.failures == tuple(
        Failure(network.title, "float", _peers.RAISES.name, threads, why) for network in SMALL for threads in (1, 2)
    )
    lines = str(report).splitlines()
    for failure in report.failures:
        assert f"failed: raises on {failure.network}, float, {failure.threads} thread(s): {why}" in lines
    behind = [line.split() for line in lines if line.startswith("VGG, 8 x 8 ")][1]
    assert behind == ["VGG,", "8", "x", "8", "1", "raises", "float", "failed"]
    assert f"left out: {report.missing[0]}" in lines


def test_targets_stand_on_their_rows(report: SpeedReport) -> None:
    wanted = {(row.network, row.threads, row.peer): row.target for row in report.rows if row.target is not None}
    assert wanted == {
        ("VGG, 8 x 8", 1, CHANNELS_LAST.name): 2.0,
        **{(network.title, 2, ONE_THREAD): 1.7 for network in SMALL},
    }


def test_values_are_sound(report: SpeedReport) -> None:
    for row in report.rows:
        for spread in (row.latency_us, row.peer_latency_us, row.ratio):
            assert 0.0 < spread.min <= spread.median <= spread.max
    for row in report.memory:
        assert row.packed_bytes > 0
        assert row.float_bytes > 0
    assert torch.get_num_threads() == this_machine().threads


def test_every_binary_layer_is_counted(report: SpeedReport) -> None:
    for network, found in zip(SMALL, report.layers, strict=True):
        counted = summary(network.build().eval(), torch.zeros(1, *network.input_shape))
        assert sum(row.macs for row in found.rows) == counted.bmac
        assert found.other_us > 0.0


def test_kernels_know_their_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the counting loop takes 50 us and a call of several kernels 100."""
    found = Comparison((100.0,), (50.0,))
    monkeypatch.setattr("bittern.bench.speed.layers.compare", lambda *calls, budget_s: found)
    monkeypatch.setattr("bittern.bench.speed.layers._counting_loop", lambda isa: (lambda: None, 2**20))
    small, large = kernels(chosen_isa(), ((3, 64), (2, 128)))
    assert (small.macs, large.macs) == (9 * 9 * 64 * 64, 4 * 9 * 128 * 128)
    assert (small.target, large.target) == (None, 0.85)
    assert large.latency_us == 100.0 / CALLS
    assert large.of_peak == pytest.approx(CALLS * large.macs / 100.0 / (2**20 / 50.0))


def test_kernels_run() -> None:
    (row,) = kernels(chosen_isa(), ((3, 64),))
    assert 0.0 < row.of_peak < 2.0


@pytest.mark.parametrize("isa", available_isas())
def test_peak_counts(isa: Isa) -> None:
    once = _native.count_in_cache(isa, 1)
    assert _native.count_in_cache(isa, 3) == 3 * once > 0
    assert peak_gmac_s(isa).min > 0.0


def test_peak_refuses_nothing_to_do() -> None:
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        _native.count_in_cache(Isa.SCALAR, 0)


def test_report_survives_json(report: SpeedReport) -> None:
    assert from_json(SpeedReport, report.to_json()) == report


def _report(rows: tuple[SpeedRow, ...]) -> SpeedReport:
    memory = (MemoryRow("net", "float", 1, 4, 1 / 3), MemoryRow("net", "float", 2, 4, 1 / 3))
    layer = LayerRow("conv", "3x3 64 -> 64", "sign", 2.0, 8000, 0.8, 0.85)
    layers = (NetworkLayers("net", (layer, replace(layer, of_peak=0.9)), 7.0),)
    return SpeedReport("bittern", this_machine(), "load", rows, (), (), memory, ONE, (), layers)


def test_reached_follows_the_medians() -> None:
    rows = tuple(SpeedRow("net", "float", "peer", 1, ONE, ONE, Spread(r, r, r), 2.0) for r in (2.0, 1.99))
    lines = str(_report(rows)).splitlines()
    for start, column in (("net  ", ("yes", "NO", "yes", "NO")), ("conv ", ("NO", "yes"))):
        assert tuple(line.split()[-1] for line in lines if line.startswith(start)) == column
    assert "net: binary layers 4 us, all else 7 us" in lines


def _row(network: str, own: float, twin: str, peer: str, theirs: float, threads: int = 1) -> SpeedRow:
    return SpeedRow(
        network, twin, peer, threads, Spread(own, own, own), Spread(theirs, theirs, theirs), ONE, None
    )  # fmt: skip


def test_published_accuracies_stand_beside_the_fastest_engine() -> None:
    dataset = "ImageNet"
    binary_one = Published(60.0, dataset, "Signs", "paper A")
    fp32, int8 = Published(75.0, dataset, "Small", "paper B"), Published(74.0, dataset, "Small", "paper C")
    twins = (Twin("dense", resnet20_cifar), Twin("Small", resnet20_cifar, {}, fp32, int8))
    net = Network("signs", "Signs, 8 x 8", resnet20_cifar, (3, 8, 8), twins, published=binary_one)
    rows = [
        _row("Signs, 8 x 8", 5.0, "dense", "torch fp32", 90.0),
        _row("Signs, 8 x 8", 7.0, "Small", "torch fp32", 9.0),
        _row("Signs, 8 x 8", 6.0, "Small", "torch fp32, channels-last", 8.0),
        _row("Signs, 8 x 8", 6.0, "Small", "Runtime int8 QDQ", 4.0),
        _row("Signs, 8 x 8", 6.0, "Small", "Vino int8 QDQ", 8.5),
        _row("Signs, 8 x 8", 6.0, "Small", "torch bf16, channels-last", 1.0),
        _row("Signs, 8 x 8", 1.0, "Small", "Runtime int8 QDQ", 1.0, threads=2),
    ]
    found = points_of(rows, [net], 1)
    assert [(p.network, p.engine, p.latency_us, p.accuracy) for p in found] == [
        ("Small", "Runtime int8 QDQ", 4.0, 74.0),
        ("Signs, 8 x 8", "bittern", 6.0, 60.0),
        ("Small", "torch fp32, channels-last", 8.0, 75.0),
    ]
    assert [p.beaten_by for p in found] == [(), ("Small",), ()]
    lines = points_table(found).splitlines()
    assert lines[3].split() == ["Signs,", "8", "x", "8", "bittern", "0.01", "60.0", "%", "Small", "paper", "A"]


def test_plot_has_a_bar_for_each_engine(report: SpeedReport) -> None:
    text = latencies_svg(report)
    assert text == latencies_svg(report)
    drawn = ElementTree.fromstring(text)
    words = [node.text for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("bittern, packed") == words.count(CHANNELS_LAST.name) == len(SMALL)
    assert bench.OWN_BF16 not in words


def test_plot_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="has no comparison to draw"):
        latencies_svg(_report(()))


def test_ratio_is_taken_pair_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = Comparison(candidate_us=(2.0, 4.0, 8.0), baseline_us=(8.0, 8.0, 8.0))
    monkeypatch.setattr(Contest, "hold", lambda self, limit_s: compared)
    found = bench.run((1,), command="", budget_s=0.001, chosen=SMALL[:1], peers=(CHANNELS_LAST,), kernels=())
    assert found.rows[0].ratio == Spread(2.0, 1.0, 4.0)


def with_its_packages(peer: Peer) -> Any:
    return pytest.param(peer, id=peer.name, marks=[pytest.mark.peers(*peer.packages)] if peer.packages else [])


@pytest.mark.parametrize("peer", [with_its_packages(peer) for peer in PEERS])
def test_peers_compute_what_the_network_does(peer: Peer) -> None:
    torch.manual_seed(0)
    model, x = vgg_small(width=16, input_size=16).eval().requires_grad_(False), torch.randn(1, 3, 16, 16)
    expected = model(x)
    found: Any = peer.build(model, x)()
    if peer.packages:
        found = torch.as_tensor(found[0])
    assert isinstance(found, Tensor)
    assert found.shape == expected.shape
    if "int8" in peer.name:  # of every value between layers, by ranges seen on other noise
        assert torch.cosine_similarity(found, expected) > 0.9
    else:
        bound = 0.25 if "bf16" in peer.name else 1e-4  # each layer rounds to 8 bits
        assert (found.float() - expected).abs().max() <= bound * expected.abs().max()
    assert model(x).dtype == torch.float32  # it is left as it was


def test_networks_and_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [network.name for network in networks()] == [
        "bireal_net18",
        "reactnet_a",
        "react_resnet18",
        "binary_densenet28",
        "meliusnet22",
        "quicknet",
        "resnet20_cifar",
        "vgg_small",
    ]
    cases = ((Isa.AVX512, True, 9.0), (Isa.AVX512, False, 12.0), (Isa.AVX2, False, 3.0), (Isa.SCALAR, False, None))
    for isa, amx, wanted in cases:
        monkeypatch.setattr(speed_networks, "chosen_isa", lambda isa=isa: isa)
        monkeypatch.setattr(_native, "cpu_features", lambda amx=amx: {"amx_int8": amx})
        targets = networks()[0].twins[0].targets
        assert targets.get(CHANNELS_LAST.name) == wanted
        assert targets[ONNX_FP32.name] == (7.5 if wanted == 12.0 else 5.0)
        assert targets.get(OPENVINO_INT8.name) == (2.3 if wanted == 12.0 else None)
        assert targets.get(AUTOCAST.name) == (2.5 if amx else None)


@pytest.mark.parametrize(
    ("build", "parameters", "products"),
    [(mobilenet_v1, 4_231_976, 569e6), (mobilenet_v2, 3_504_872, 300e6), (mobilenet_v3_large, 5_483_032, 219e6)],
)
def test_mobilenets_have_the_parameters_and_products_of_their_papers(
    build: Callable[[], nn.Module], parameters: int, products: float
) -> None:
    """V1: 4.2 million and 569 million; V2: 3.4 and 300; V3-Large: 5.4 and 219."""
    model = build().eval()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert summary(model, torch.zeros(1, 3, 224, 224)).fmac == pytest.approx(products, rel=0.02)


def test_engine_is_that_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = deploy.pack(vgg_small(binary.BNN, input_size=8, width=8).eval(), torch.randn(1, 3, 8, 8))
    assert packed.engine.program is packed.program
    monkeypatch.setattr(packed, "_engine", Interpreter(packed.program, packed.tensors, packed.device))
    with pytest.raises(ValueError, match="fused programs run on the CPU, this one is on"):
        _ = packed.engine


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="threads: must be at least 1; got 0"):
        bench.run((0,), command="")
    with pytest.raises(ValueError, match="budget_s must be positive"):
        bench.run((1,), command="", budget_s=0.0)
    with pytest.raises(ValueError, match="limit_s must be positive; got 0"):
        bench.run((1,), command="", limit_s=0.0)
