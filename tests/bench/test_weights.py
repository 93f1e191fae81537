# SPDX-License-Identifier: Apache-2.0
"""The report of low-bit linear layers and codecs: complete, and its arithmetic right. Nothing here asserts a speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from _clock import FakeClock
from bittern.bench.core.machine import this_machine
from bittern.bench.core.store import from_json
from bittern.bench.core.timing import Spread
from bittern.bench.weights import run as bench
from bittern.bench.weights.case import FORWARD, STEP, Case, CaseRun, Field, Line, Ratio, measure
from bittern.bench.weights.codecs import CodecRun
from bittern.bench.weights.contender import Contender, Pass, Ready, of_layers, without
from bittern.bench.weights.formats import FORMATS
from bittern.bench.weights.peers import PEERS
from bittern.bench.weights.report import WeightsReport
from bittern.bench.weights.roof import MEMORY, PRODUCTS, Roof, Sweep
from bittern.bench.weights.shapes import SHAPES, Shape, inputs, mlp, ragged, square

FLOAT = PEERS[0]


def _fails(linears: Sequence[nn.Linear]) -> Ready:
    def build(repeats: int, x: Tensor, step: bool) -> Pass:
        raise RuntimeError("no such operator\nand more")

    if linears[0].in_features == 65:
        raise ValueError("no such rows")
    return build


SMALL = bench.Choice(
    batches=(1, 3),
    shapes=(square(64), ragged(64)),
    types=(torch.float32, torch.float16),
    formats=FORMATS[:3],
    peers=(
        FLOAT,
        Contender("stubborn", _fails, (torch.float32,), steps=False),
        Contender("absent", _fails, missing=without("no_such_package")),
    ),
    size=64,
    layers=2,
    elements=5000,
    side=8,
    swept=4096,
)


@pytest.fixture(scope="module")
def report() -> WeightsReport:
    return bench.run((1,), command="bittern bench weights", budget_s=0.0001, choice=SMALL)


def test_every_row_is_there(report: WeightsReport) -> None:
    cases = [run for run in report.runs if isinstance(run, CaseRun)]
    assert [run.key for run in cases] == [
        (shape, inputs, work, batch, 1)
        for shape in ("square 64 -> 64", "ragged 65 -> 68 -> 65")
        for inputs in ("float32", "float16")
        for work in (FORWARD, STEP)
        for batch in (1, 3)
    ]
    for run in cases:
        assert [(line.name, line.ours) for line in run.lines] == [
            ("nf4", True),
            ("nf4-nested", True),
            ("int8", True),
            ("torch float32", False),
        ]
        assert [[r.peer for r in line.ratios] for line in run.lines] == [["torch float32"]] * 3 + [[]]
    (codecs,) = (run for run in report.runs if isinstance(run, CodecRun))
    assert [row.subject for row in codecs.codecs] == [
        f"{name}, 5,000"
        for name in ("quantize_blockwise", "dequantize_blockwise", "quantize_4bit NF4", "dequantize_4bit NF4")
    ]
    assert [figure.unit for figure in codecs.figures] == ["ms", "ms"]


def test_bytes_are_those_of_the_stack(report: WeightsReport) -> None:
    """Two layers of 64 x 64 with one input, one with three; blocks of 64, and a row's scale of int8."""
    for run in report.runs[:2]:
        assert isinstance(run, CaseRun)
        layers = {1: 2, 3: 1}[run.batch]
        assert (run.layers, run.weights) == (layers, layers * 64 * 64)
        size = {line.name: line.weight_bytes for line in run.lines}
        assert size["nf4"] == layers * (64 * 64 // 2 + 4 * 64 + 4 * 16)  # and a table of sixteen
        assert size["int8"] == layers * (64 * 64 + 4 * 64)
        assert size["torch float32"] == layers * 4 * 64 * 64


def test_who_is_left_out_is_named(report: WeightsReport) -> None:
    for text in (str(report), report.page()):
        assert "left out: absent: no no_such_package here; pip install 'bittern[bench]'" in text
        assert text.count("left out: stubborn on square 64 -> 64: RuntimeError: no such operator\n") == 1
        assert text.count("left out: stubborn on ragged 65 -> 68 -> 65: ValueError: no such rows\n") == 1


def test_the_nearest_peer_is_named() -> None:
    spreads = {"slow": Spread(3.0, 2.5, 4.0), "fast": Spread(0.5, 0.25, 0.75)}
    ratios = tuple(Ratio(name, spread) for name, spread in spreads.items())
    size = 64 * 64 * 9 // 16
    line = Line("nf4", True, size, Spread(80.0, 60.0, 90.0), 20.0, MEMORY, ratios)
    peers = tuple(replace(line, name=name, ours=False, ratios=()) for name in spreads)
    case = CaseRun("square", "float32", FORWARD, 1, 2, 4, 64 * 64, 10.0, 40.0, 80.0, (line, *peers), ())
    told = str(WeightsReport("bittern", this_machine(), 2**20, 1.0, (), (case,)))
    row = next(text for text in told.splitlines() if " nf4 " in text)
    assert row.split() == [
        "1",
        "4",
        "nf4",
        "4.50",
        "0.0",
        "20",
        "25%",
        "memory",
        "3.00",
        "0.50",
        "0.50",
        "fast",
        "(0.25",
        "-",
        "0.75)",
    ]
    assert "square, float32 inputs, forward, 2 threads" in told


def test_report_survives_json(report: WeightsReport) -> None:
    assert from_json(WeightsReport, report.to_json()) == report
    assert "## ragged 65 -> 68 -> 65, float16 inputs, forward and back, 1 thread" in report.page()


def _timed(name: str, us: float, clock: FakeClock, weight_bytes: int, **options: Any) -> Contender:
    """Takes `us` for a pass, whatever it is."""
    call = clock.takes(name, lambda n: us)
    return Contender(name, lambda linears: lambda repeats, x, step: Pass(call, weight_bytes), **options)


@pytest.fixture
def fake_products(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """A clock by which 4096 bytes are swept in 1 us or 2 us, and a product of 100 x 100 takes 100 us; int8 does two."""
    clock = FakeClock()
    product = clock.takes("product", lambda n: 100.0)
    monkeypatch.setattr("bittern.bench.weights.case.float_product", lambda *_: product)
    monkeypatch.setattr("bittern.bench.weights.case.int8_product", lambda *_: (product, 2))
    monkeypatch.setattr(torch, "mv", lambda *_: clock.takes("swept", lambda n: 1.0)())
    monkeypatch.setattr(torch, "sum", lambda *_: clock.takes("swept", lambda n: 2.0)())
    return clock


@pytest.mark.parametrize(
    ("work", "batch", "ours", "limits"),
    [
        # 4.096 GB/s; 8000 weight bytes and 2 * 2 * 50 floats moved; 2 * 2500 products at 10 or 20 a ns
        (FORWARD, 1, (8800 / 4.096e3, 0.0), MEMORY),
        (STEP, 1, (2 * 8800 / 4.096e3, 0.0), MEMORY),
        (FORWARD, 10_000, (0.0, 25e6 / 10e3), PRODUCTS),
        (STEP, 10_000, (0.0, 2 * 25e6 / 10e3), PRODUCTS),
    ],
)
def test_roof_and_ratio_on_a_fake_clock(
    fake_products: FakeClock, work: str, batch: int, ours: tuple[float, float], limits: str
) -> None:
    clock = fake_products
    mine = _timed("ours", 500.0, clock, 8000)
    rounded = _timed("rounded", 400.0, clock, 8000, int8=True)
    peer = _timed("peer", 1500.0, clock, 20_000)
    field = Field([mine, rounded], [peer], size=50, layers=2)
    case = Case(square(50), torch.float32, work, batch, 1)
    found = measure(case, field, Sweep(4096, clock), budget_s=0.001, side=100, clock=clock)
    assert (found.memory_gb_s, found.float_gmac_s, found.int8_gmac_s) == (4.096, 10.0, 20.0)
    line, other, theirs = found.lines
    assert line.latency_us == Spread(500.0, 500.0, 500.0)
    assert line.ratios[0].ratio == Spread(3.0, 3.0, 3.0)
    assert other.ratios[0].ratio == Spread(3.75, 3.75, 3.75)
    assert (line.roof_us, line.limit) == (pytest.approx(sum(ours)), limits)
    assert line.of_roof == pytest.approx(sum(ours) / 500.0)
    assert theirs.ratios == ()
    if limits == PRODUCTS:  # forward at the rate of int8, gradients at that of floats
        assert other.roof_us == pytest.approx(25e6 / 20e3 + (25e6 / 10e3 if work == STEP else 0.0))


def test_every_sample_finds_an_empty_cache(fake_products: FakeClock) -> None:
    clock = fake_products
    field = Field([_timed("ours", 500.0, clock, 8000)], [], size=50, layers=2)
    case = Case(square(50), torch.float32, FORWARD, 1, 1)
    measure(case, field, Sweep(4096, clock), budget_s=0.001, side=100, clock=clock)
    samples = clock.calls[clock.calls.index("swept") :]
    assert samples.count("swept") == len(samples) / 2
    assert all(before == "swept" for before, call in pairwise(samples) if call != "swept")


def test_shapes() -> None:
    assert [shape(4096).sizes for shape in SHAPES] == [
        ((4096, 4096),),
        ((4096, 11008), (11008, 4096)),
        ((4097, 4100), (4100, 4097)),
    ]
    assert square(4096).repeats(4096, 24, 1) == 24
    assert [square(4096).repeats(4096, 24, batch) for batch in (4, 8, 32, 512)] == [6, 3, 1, 1]
    assert mlp(4096).repeats(4096, 24, 1) == 4
    assert ragged(64).repeats(64, 24, 1) == 11
    assert ragged(64).moved_values() == 65 + 68 + 68 + 65


def test_roof_takes_what_is_slower() -> None:
    roof = Roof(memory_gb_s=10.0, float_gmac_s=50.0, int8_gmac_s=100.0)
    assert roof.of(20_000, 0, 0) == (2.0, MEMORY)
    assert roof.of(10_000, 50_000, 100_000) == (2.0, PRODUCTS)


def test_layers_have_weights_of_their_own() -> None:
    seen: list[nn.Linear] = []

    def freeze(linear: nn.Linear) -> nn.Linear:
        seen.append(linear)
        return linear

    found = of_layers(freeze, ragged(8).linears())(3, torch.randn(2, 9), False)
    assert len(seen) == 2  # quantized once, copied thrice
    assert found.weight_bytes == 3 * 2 * 4 * 9 * 12


def _known(contender: Contender) -> Any:
    """ggml's libraries are in no environment of ours; where they are, they are tried."""
    packages = [name for name in ("bitsandbytes", "onnxruntime", "openvino") if name in contender.name.lower()]
    marks = [pytest.mark.peers(*packages)] if packages else []
    if contender.name.startswith("ONNX"):
        marks = [pytest.mark.peers("onnx", "onnxruntime")]
    return pytest.param(contender, id=contender.name, marks=marks)


def _lacks_ggml(contender: Contender) -> bool:
    return contender.name.startswith("ggml") and contender.missing() is not None


def _rolled(linear: nn.Module, copy: int) -> nn.Linear:
    found = nn.Linear(linear.in_features, linear.out_features, bias=False)  # type: ignore[arg-type]
    found.weight = nn.Parameter(linear.weight.detach().roll(copy, 0))  # type: ignore[operator]
    return found


LEAST = {
    "groups2": 0.75,
    "groups3": 0.94,
    "groups4": 0.98,
    "nf4": 0.98,
    "mxfp4": 0.97,
    "NF4": 0.98,
    "int4": 0.98,
    "Q4_0": 0.98,
}
"""Cosine with the float product, a little below what rounding by so many bits should leave."""


@pytest.mark.parametrize("shape", [square(128), ragged(128)], ids=str)
@pytest.mark.parametrize("contender", [_known(c) for c in (*FORMATS, *PEERS) if not _lacks_ggml(c)])
def test_everybody_computes_the_product(contender: Contender, shape: Shape) -> None:
    """Two layers one behind the other; a step gives the gradient of a sum."""
    torch.manual_seed(0)
    linears = shape.linears()
    x = inputs(shape, 3, torch.float32)
    stack = nn.Sequential(*(linears * 2 if len(linears) == 1 else linears))
    repeats = 2 // len(linears)
    if (contender.name.startswith("ggml") and len(linears) > 1) or not contender.takes(linears):
        with pytest.raises(ValueError, match=r"whole blocks|multiple of 32"):
            contender.prepare(linears)(repeats, x, False)
        return
    made = contender.prepare(linears)(repeats, x, False)
    found = torch.as_tensor(made.call()).float()
    # 1 / (1 + e) where rounding leaves e of a layer's variance: 0.155, 0.037 and 0.009 with 2, 3 and 4 bits
    least = next((least for bits, least in LEAST.items() if bits in contender.name), 0.995)
    if contender.name.startswith(("ONNX", "OpenVINO")):  # no two of their copies are equal
        stack = nn.Sequential(*(_rolled(linear, copy) for copy, linear in enumerate(stack)))
    assert torch.cosine_similarity(found.flatten(), stack(x).flatten(), 0) > least
    if contender.steps:
        gradient = torch.as_tensor(contender.prepare(linears)(repeats, x, True).call()).float()
        expected = torch.ones(3, shape.features)
        for linear in reversed(stack):
            expected = expected @ linear.weight
        assert torch.cosine_similarity(gradient.flatten(), expected.flatten(), 0) > least
