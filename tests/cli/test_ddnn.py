# SPDX-License-Identifier: Apache-2.0
"""`bittern ddnn`: what it trains and writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

from _command import Command
from bittern.data import digits, tiled
from bittern.ddnn import open_ddnn


def test_train_writes_the_parts_that_it_tells_of(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    words = ["ddnn", "train", folder, "--rows", 1, "--columns", 2, "--shared", "--epochs", 1, "--threads", 1]
    said = command.done(*words)
    opened = open_ddnn(folder)
    test = tiled(digits(), 1, 2)[1]
    exits = opened.network().exits(test.views)
    right = {name: float((scores.argmax(1) == test.labels).double().mean()) for name, scores in exits.items()}
    assert f"epoch 1 of 1: {', '.join(f'{name} {value:.2%}' for name, value in right.items())}" in said
    assert opened.classes == digits().classes
    table = (folder / "thresholds.csv").read_text().splitlines()
    assert table[0] == "local_threshold,accuracy,local_share,cloud_share"
    assert len(table) == 22
    answers = opened.network()(test.views, opened.thresholds)
    accuracy = float((answers.classes == test.labels).double().mean())
    assert f"test accuracy {accuracy:.2%}, {answers.share('local'):.1%} leave at the local exit" in said


def test_what_it_refuses(command: Command, tmp_path: Path) -> None:
    assert "unknown aggregation 'XX'" in command("ddnn", "train", tmp_path, "--local", "XX").error
    refused = command("ddnn", "train", tmp_path, "--edge", "AP", "--cloud", "CC")
    assert refused.status == 2
    assert "joins nothing" in refused.error
    assert "no ddnn.json there" in command("ddnn", "cloud", tmp_path).error
    assert "give one of --data and --views" in command("ddnn", "device", tmp_path, 0).error
    missing = command("ddnn", "edge", tmp_path, "--device", "tcp://127.0.0.1:9", "--cloud", "x", "--batch", 0)
    assert "--batch lie in 1" in missing.error
    assert "device" in command.done("ddnn")
