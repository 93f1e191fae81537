# SPDX-License-Identifier: Apache-2.0
"""`bittern pretrained`, and `bittern bench publish` from a store to an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from _command import Command
from _shelf import low_bit
from _tracks import done
from bittern import pretrained
from bittern.bench.tracks.artefacts import LAYERS, PACKED
from bittern.bench.trials.store import TrialStore
from bittern.bench.trials.trial import TWIN, Result, Trial
from bittern.data import digits
from bittern.deploy import pack


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A digit of the test set, eight times as large."""
    pixels = (digits().test_images[0, 0] * 255).round().byte()
    Image.fromarray(pixels.numpy()).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def test_the_list(command: Command) -> None:
    found = command("pretrained")
    assert found.status == 0
    for name in pretrained.names():
        assert f"\n{name} " in found.out
    listed = json.loads(command("pretrained", "--json").out)
    assert [card["name"] for card in listed] == list(pretrained.names())


def test_a_card(command: Command) -> None:
    found = command("pretrained", "digits")
    assert found.out.startswith("digits: Digits, 8 x 8\n")
    for word in ("accuracy of this file", "float twin", "licence of the data: CC BY 4.0", "seed", "command: bittern"):
        assert word in found.out
    assert command("pretrained", "digits", "--json").out == pretrained.card("digits").to_json()


def test_an_answer(command: Command, picture: Path) -> None:
    truth = str(int(digits().test_labels[0]))
    found = command("pretrained", "digits", picture, picture, "--top", 2)
    assert found.status == 0
    first, second = found.out.splitlines()
    assert first == second
    assert first.startswith(f"{picture}: {truth} ")
    assert first.count("%") == 2
    (line,) = command("pretrained", "digits", picture, "--json").out.splitlines()
    said = json.loads(line)
    assert said["example"] == str(picture)
    assert [answer["name"] for answer in said["answers"]] == [truth]


def test_what_is_refused(command: Command, tmp_path: Path) -> None:
    assert "unknown network 'digit': did you mean digits?" in command("pretrained", "digit").error
    assert "--top says how many answers to print" in command("pretrained", "digits", "--top", 1).error
    assert "no.png" in command("pretrained", "digits", tmp_path / "no.png").error


def _store(path: Path, task: str = "digits") -> Path:
    """Two seeds of a network that was not trained, and their twins."""
    with TrialStore.open(path) as store:
        for seed in (0, 1):
            trial = Trial("learning_task", task, "vgg_small", "BNN", "common", seed, 3, (("train_size", 100),))
            layers = json.dumps([{"binary_params": 90, "float_params": 7, "code_params": 0}]).encode()
            files = {PACKED: pack(low_bit(1, 10), torch.randn(2, 1, 8, 8)).to_bytes(), LAYERS: layers}
            store.add(done(trial, Result({"score": 0.1, "exact": 1.0}, {"train_loss": (1.0,)}, files)))
            twin = Trial("learning_task", task, "vgg_small", TWIN, "common", seed, 3, (("train_size", 100),))
            store.add(done(twin, {"score": 0.2}))
    return path


def test_publish(command: Command, tmp_path: Path) -> None:
    store, out = _store(tmp_path / "all.trials"), tmp_path / "out"
    asked = ("--task", "digits", "--network", "vgg_small", "--method", "bnn")
    found = command("bench", "publish", store, "my-digits", *asked, "--out", out)
    assert found.status == 0, found.err
    assert found.out.startswith("my-digits: accuracy 10.0 % (seeds: 10.0), ")
    net = pretrained.load("my-digits", out)
    assert net.card.method == "BNN"
    assert net.card.train_size == 100
    assert len(net.predict(digits().test_images[0])) == 1
    other = command("bench", "publish", store, "my-digits", *asked[:-1], "recu", "--out", out)
    assert "publish: no trainings of" in other.error
    assert (
        "float twin is not packed" in command("bench", "publish", store, "x", *asked[:-1], "float", "--out", out).error
    )
