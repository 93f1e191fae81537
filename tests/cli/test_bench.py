# SPDX-License-Identifier: Apache-2.0
"""`bittern bench speed`, `optim`, `weights` and `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from _command import Command
from bittern import binary, data, quant
from bittern.bench.core.store import from_json
from bittern.bench.speed.peers import CHANNELS_LAST, COMPILED, PEERS, Peer
from bittern.bench.speed.report import SpeedReport
from bittern.bench.train.report import TrainReport
from bittern.bench.weights.run import Choice

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


@pytest.fixture
def weights_asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `bench weights` was asked for, instead of measuring."""
    seen: list[dict[str, Any]] = []

    def run(threads: tuple[int, ...], *, choice: Choice, **options: Any) -> str:
        names = {field: tuple(str(x.name) for x in getattr(choice, field)) for field in ("shapes", "formats", "peers")}
        others = {
            field: getattr(choice, field) for field in ("batches", "types", "works", "size", "layers", "elements")
        }
        seen.append({"threads": threads, **names, **others, "budget": options["budget_s"], "out": options["out"]})
        return "measured"

    monkeypatch.setattr("bittern.bench.weights.run.run", run)
    return seen


@pytest.mark.parametrize(
    ("option", "value", "changed"),
    [
        ("--threads", 2, {"threads": (2,)}),
        ("--batches", "1, 32,1", {"batches": (1, 32)}),
        ("--shapes", "all", {"shapes": ("square", "mlp", "ragged")}),
        ("--types", "float16", {"types": (torch.float16,)}),
        ("--formats", "groups3-zero-int8,nf4", {"formats": ("nf4", "groups3-zero-int8")}),
        ("--works", "step", {"works": ("step",)}),
        ("--no-peers", None, {"peers": ("torch float32",)}),
        ("--no-codecs", None, {"elements": 0}),
        ("--size", 256, {"size": 256}),
        ("--layers", 3, {"layers": 3}),
        ("--budget", 0.5, {"budget": 0.5}),
        ("--out", "w.json", {"out": Path("w.json")}),
    ],
)
def test_every_option_of_weights_is_heard(
    command: Command, weights_asked: list[dict[str, Any]], option: str, value: object, changed: dict[str, Any]
) -> None:
    command.done("bench", "weights")
    command.done("bench", "weights", option, *([] if value is None else [value]))
    plain, other = weights_asked
    assert other == plain | changed
    assert other != plain


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("--formats", "groups5", "unknown format 'groups5': did you mean groups8?"),
        ("--batches", "1,0", "--batches must be whole numbers of at least 1 with commas, as in 1,32; got '1,0'"),
        ("--size", "0", "bench weights: size must be at least 1; got 0"),
    ],
)
def test_bad_options_of_weights_are_one_line(command: Command, option: str, value: str, error: str) -> None:
    assert command("bench", "weights", option, value).error == error


def test_weights_measures_and_writes(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "weights.json"
    small = ("--batches", 1, "--types", "float32", "--works", "forward", "--formats", "nf4", "--no-peers")
    told = command.done(
        "bench", "weights", *small, "--no-codecs", "--size", 64, "--layers", 2, "--budget", 1e-4, "--out", out, "--json"
    )
    assert told == out.read_text() + "\n"
    assert "square 64 -> 64, float32 inputs, forward, 1 thread" in out.with_suffix(".md").read_text()


@pytest.mark.parametrize(
    ("option", "value", "changed"),
    [
        ("--threads", 2, {"threads": (2,)}),
        ("--models", "mlp,resnet20_cifar", {"networks": ("resnet20_cifar", "mlp")}),
        ("--methods", "recu, bnn", {"methods": ("ReCU", "BNN")}),
        ("--methods", "bittern.binary.fda:FDA", {"methods": ("FDA",)}),
        (
            "--methods",
            "all",
            {"methods": tuple(m.__name__ for m in (*binary.ALL, *quant.ALL) if m is not quant.BitNet)},
        ),
        ("--budget", 0.5, {"budget_s": 0.5}),
        ("--out", "t.json", {"out": Path("t.json")}),
    ],
)
def test_every_option_of_train_is_heard(
    command: Command, monkeypatch: pytest.MonkeyPatch, option: str, value: object, changed: dict[str, Any]
) -> None:
    seen: list[dict[str, Any]] = []

    def run(threads: tuple[int, ...], *, networks: Any, methods: Any, budget_s: float, out: Any, **_: Any) -> str:
        names = {"networks": tuple(n.name for n in networks), "methods": tuple(m.__name__ for m in methods)}
        seen.append({"threads": threads, **names, "budget_s": budget_s, "out": out})
        return "measured"

    monkeypatch.setattr("bittern.bench.train.run.run", run)
    command.done("bench", "train")
    command.done("bench", "train", option, value)
    plain, other = seen
    assert other == plain | changed != plain
    assert plain["methods"] == tuple(m.__name__ for m in binary.COMPARED)


def test_all_leaves_out_what_cannot_serve_the_network(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.bench.train.run.run", lambda *_, methods, **__: " ".join(m.__name__ for m in methods))
    small = command("bench", "train", "--models", "mlp", "--methods", "all")
    assert "BitNet" in small.out
    images = command("bench", "train", "--models", "resnet20_cifar", "--methods", "all")
    assert "BitNet" not in images.out
    (line,) = images.err.splitlines()
    assert line.startswith("left out: ")
    assert "BitNet" in line


def test_bad_options_of_train_are_one_line(command: Command) -> None:
    assert command("bench", "train", "--models", "mpl").error == "unknown model 'mpl': did you mean mlp?"
    assert "unknown method 'recoo': did you mean ReCU?" in command("bench", "train", "--methods", "recoo").error


def test_train_measures(command: Command) -> None:
    told = command.done("bench", "train", "--models", "mlp", "--methods", "bnn", "--budget", 1e-3, "--json")
    (run,) = from_json(TrainReport, told).runs
    assert [step.method for step in run.steps] == ["float twin", "BNN"]


@pytest.mark.parametrize(
    ("option", "value", "changed"),
    [
        ("--threads", 2, {"threads": (2,)}),
        ("--formats", "int8,nf4-nested", {"formats": ("nf4-nested", "int8")}),
        ("--type", "bfloat16", {"dtype": torch.bfloat16}),
        ("--prompt", 64, {"prompt": 64}),
        ("--no-peers", None, {"with_peers": False}),
        ("--budget", 0.5, {"budget_s": 0.5}),
    ],
)
def test_every_option_of_decode_is_heard(
    command: Command, monkeypatch: pytest.MonkeyPatch, option: str, value: object, changed: dict[str, Any]
) -> None:
    seen: list[dict[str, Any]] = []

    def run(threads: tuple[int, ...], *, command: str, on_row: object, **options: Any) -> str:
        seen.append({"threads": threads, **options})
        return "measured"

    monkeypatch.setattr("bittern.bench.decode.run.run", run)
    command.done("bench", "decode")
    command.done("bench", "decode", option, *([] if value is None else [value]))
    plain, other = seen
    assert other == plain | changed
    assert other != plain


def test_bad_options_of_decode_are_one_line(command: Command) -> None:
    assert command("bench", "decode", "--type", "float23").error == "unknown type 'float23': did you mean float32?"
    assert "unknown format 'nf5'" in command("bench", "decode", "--formats", "nf5").error


def test_rules_take_options(command: Command, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(data.sample_text(300))
    run = ("bench", "optim-rules", "--characters", text, "--steps", 1, "--layers", 1, "--width", 32, "--seed", 0)
    out = ("--out", tmp_path / "rules.json")
    assert "| sgd-32bit:lr=0.5,weight_decay=0.1 |" in command.done(
        *run, *out, "--rule", "sgd-32bit:lr=0.5,weight_decay=0.1"
    )
    for rule, message in (
        ("sgd-8bit:rank=3", "'rank=3' is none of its options"),
        ("sap-8bit", "did you mean soap-8bit?"),
        ("adamw-16bit", "did you mean adamw-8bit?"),
    ):
        assert message in command(*run, *out, "--rule", rule).error
    assert "--width must be a multiple of 32; got 48" in command(*run[:-3], 48, *out, "--rule", "adamw-8bit").error


@pytest.mark.parametrize(
    ("option", "value", "changed"),
    [
        ("--level", "character", {"level": "character"}),
        ("--kind", "gru", {"kind": "gru"}),
        ("--width", 9, {"width": 9}),
        ("--layers", 2, {"layers": 2}),
        ("--tied", None, {"tied": True}),
        ("--epochs", 3, {"epochs": 3}),
        ("--retrain-epochs", 5, {"retrain_epochs": 5}),
        ("--batch", 4, {"batch": 4}),
        ("--unroll", 7, {"unroll": 7}),
        ("--seed", 5, {"seeds": (5,)}),
        ("--threads", 2, {"threads": 2}),
        ("--results", "s.json", {"path": Path("s.json")}),
    ],
)
def test_every_option_of_sequences_is_heard(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    option: str,
    value: object,
    changed: dict[str, Any],
) -> None:
    seen: list[dict[str, Any]] = []

    def run(texts: tuple[Any, ...], *, command: str, on_run: object, **options: Any) -> str:
        seen.append({"words": texts[3], **options})
        return "measured"

    text = tmp_path / "text.txt"
    text.write_text("a b a c " * 9)
    monkeypatch.setattr("bittern.bench.sequences.run.run", run)
    command.done("bench", "sequences", text)
    command.done("bench", "sequences", text, option, *([] if value is None else [value]))
    plain, other = seen
    assert plain["words"] == 5
    assert other == plain | changed | ({"words": 4} if option == "--level" else {})
    assert other != plain


def test_texts_that_are_none_are_one_line(command: Command, tmp_path: Path) -> None:
    run = ("bench", "sequences", tmp_path)
    assert "no corpus is in this folder; put in it ptb.train.txt or wiki.train.tokens" in command(*run).error
    assert "unknown level 'line'" in command(*run, "--level", "line").error
    assert "unknown kind 'rnn'" in command(*run, "--kind", "rnn").error
    (tmp_path / "ptb.train.txt").write_text("a b")
    assert "ptb.valid.txt is missing" in command(*run).error
