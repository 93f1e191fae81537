# SPDX-License-Identifier: Apache-2.0
"""`bittern bench speed` and `bittern bench optim`."""

from __future__ import annotations

from pathlib import Path

import pytest

from _command import Command
from bittern.bench.core.store import from_json
from bittern.bench.speed.peers import CHANNELS_LAST, COMPILED, PEERS, Peer
from bittern.bench.speed.report import SpeedReport

SMALLEST = ("bench", "speed", "--network", "ResNet20_CIFAR", "--threads", 1, "--budget", 0.001)


@pytest.fixture
def one_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Peer("absent", CHANNELS_LAST.build, ("no_such_package",), "edge")
    monkeypatch.setattr("bittern.bench.speed.peers.PEERS", (CHANNELS_LAST, absent))


@pytest.mark.usefixtures("one_peer")
def test_speed_prints_json_and_draws(command: Command, tmp_path: Path) -> None:
    out = command.done(*SMALLEST, "--json", "--plot", tmp_path / "speed.svg")
    report = from_json(SpeedReport, out)
    assert {row.network for row in report.rows} == {"ResNet-20, 32 x 32"}
    assert report.rows[0].peer == CHANNELS_LAST.name
    assert report.missing == ("absent: no_such_package cannot be imported; pip install 'bittern[edge]'",)
    assert b"ResNet-20" in (tmp_path / "speed.svg").read_bytes()


def test_unknown_network_is_one_line(command: Command) -> None:
    outcome = command("bench", "speed", "--network", "bireal_net81")
    assert outcome.status == 2
    assert outcome.error == "unknown network 'bireal_net81': did you mean bireal_net18?"


def test_torch_compile_is_asked_for(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Peer, ...]] = []

    def run(*arguments: object, peers: tuple[Peer, ...], **options: object) -> str:
        seen.append(peers)
        return "measured"

    monkeypatch.setattr("bittern.bench.speed.run.run", run)
    assert command.done("bench", "speed") == "measured\n"
    assert command.done("bench", "speed", "--compile") == "measured\n"
    assert seen == [PEERS, (*PEERS, COMPILED)]


def test_optim_takes_a_device(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("bittern.bench.optim.run.run", lambda threads, **_: f"threads {threads}")
    monkeypatch.setattr("bittern.bench.optim.cuda.run", lambda device, **_: f"on {device}")
    assert command.done("bench", "optim", "--threads", 2) == "threads (2,)\n"
    assert command.done("bench", "optim", "--device", "cuda") == "on cuda\n"
    outcome = command("bench", "optim", "--device", "cuda", "--threads", 2)
    assert outcome.error == "--threads counts threads of the CPU: leave it out with --device cuda"
