# SPDX-License-Identifier: Apache-2.0
"""The report of training steps: complete, its bytes counted by hand and its ratios formed round by round."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from _clock import FakeClock
from bittern import binary
from bittern.bench.core.store import from_json
from bittern.bench.core.timing import Spread
from bittern.bench.train import run as bench
from bittern.bench.train.memory import saved_bytes
from bittern.bench.train.networks import NETWORKS, Network
from bittern.bench.train.report import TWIN, TrainReport
from bittern.bench.train.run import Training, measure
from bittern.models import mlp, resnet20_cifar

SMALL = (
    Network("resnet", partial(resnet20_cifar, input_size=8), (3, 8, 8), 2),
    Network("mlp", partial(mlp, input_size=4, widths=(8, 16)), (1, 4, 4), 3),
)
METHODS = (binary.BNN, binary.ReActNet)


@pytest.fixture(scope="module")
def report() -> TrainReport:
    return bench.run((1,), command="bittern bench train", budget_s=0.001, networks=SMALL, methods=METHODS)


def test_every_row_is_there(report: TrainReport) -> None:
    assert [(run.key, run.batch) for run in report.runs] == [(("resnet", 1), 2), (("mlp", 1), 3)]
    for run in report.runs:
        assert [step.method for step in run.steps] == [TWIN, "BNN", "ReActNet"]
        assert run.steps[0].ratio == Spread(1.0, 1.0, 1.0)
        assert all(step.saved_bytes > 0 < step.state_bytes for step in run.steps)
    assert report.runs[1].layout == "contiguous"  # there are no images in it


def test_report_survives_json(report: TrainReport) -> None:
    assert from_json(TrainReport, report.to_json()) == report
    assert "## mlp, batch 3, contiguous, 1 thread" in report.page()
    shown = [line.split() for line in str(report).splitlines() if line.startswith("BNN ")]
    twin, bnn = (report.runs[0].steps[i] for i in (0, 1))
    assert shown[0][7] == f"{bnn.saved_bytes / twin.saved_bytes:.2f}"


def test_states_of_the_twin_are_32_bits(report: TrainReport) -> None:
    """Two moments of float32 for each parameter; with 8 bits a byte each and a scale for 256, in whole blocks."""
    parameters = sum(p.numel() for p in SMALL[0].build(None).parameters())
    twin, bnn, _ = report.runs[0].steps
    assert twin.state_bytes == 2 * 4 * parameters
    assert bnn.state_bytes < twin.state_bytes / 2


def test_saved_bytes_by_hand() -> None:
    """relu(x W^T) summed: W needs x, which is held; x needs W, a parameter; relu keeps its result alone."""
    linear, x = nn.Linear(5, 7, bias=False), torch.randn(3, 5, requires_grad=True)

    def forward() -> Tensor:
        return linear(x).relu().sum()

    assert saved_bytes(forward, [*linear.parameters(), x]) == 3 * 7 * 4
    assert saved_bytes(forward, linear.parameters()) == 3 * 7 * 4 + 3 * 5 * 4


def test_a_storage_counts_once_and_whole() -> None:
    x = torch.randn(10, requires_grad=True)

    def forward() -> Tensor:
        y = x * 2.0
        left, right = y[:5], y[5:]
        return (left * right).sum()  # saves both halves of the ten

    assert saved_bytes(forward, [x]) == 10 * 4


def test_ratios_on_a_fake_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin takes 300, 400, ... us, twice that channels-last; BNN half of it."""
    clock = FakeClock()
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(4, 2))
    seen: list[str] = []

    class Timed(Training):
        __slots__ = ()

        def step(self) -> None:
            raise NotImplementedError

    def training(network: Network, method: type | None, layout: str) -> Training:
        factor = (1.0 if method is None else 0.5) * (2.0 if layout == "channels-last" else 1.0)
        step = clock.takes("step", lambda n: factor * (300.0 + 100.0 * n))
        made = type("Timed", (Timed,), {"step": lambda self: step()})
        seen.append(layout)
        found: Training = made(model, torch.randn(1, 1, 2, 2), torch.tensor([0]))
        return found

    monkeypatch.setattr(bench, "training", training)
    monkeypatch.setattr(bench, "_state_bytes", lambda *_: 4)
    found = measure(SMALL[0], METHODS[:1], budget_s=1e-6, clock=clock)
    assert seen == ["contiguous", "channels-last", "contiguous", "contiguous"]
    assert found.layout == "contiguous"
    twin, bnn = found.steps
    assert twin.latency_us == Spread(500.0, 400.0, 600.0)
    assert bnn.latency_us == Spread(250.0, 200.0, 300.0)
    assert bnn.ratio == Spread(2.0, 2.0, 2.0)


def test_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = partial(bench.run, command="bittern", budget_s=0.001, methods=METHODS[:1], out=tmp_path / "train.json")
    first = run((1,), networks=SMALL[1:])
    told: list[str] = []
    both = run((1,), networks=(SMALL[1], replace(SMALL[1], name="other")), on_row=told.append)
    assert told == ["other, 1 thread(s)"]
    assert both.runs[:1] == first.runs
    assert (tmp_path / "train.md").read_text() == both.page()


def test_networks_are_those_of_the_papers() -> None:
    assert [network.name for network in NETWORKS] == ["resnet20_cifar", "vgg_small", "mlp"]
    for network in NETWORKS[::2]:
        one = bench.training(replace(network, batch=2), binary.BNN, "channels-last")
        one.step()
        assert all(p.grad is not None for p in one.model.parameters())


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="needs at least one network and one method"):
        bench.run((1,), command="", methods=())
    with pytest.raises(ValueError, match="budget_s must be positive"):
        bench.run((1,), command="", budget_s=0.0)
