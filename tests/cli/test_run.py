# SPDX-License-Identifier: Apache-2.0
"""`bittern run`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bittern
from _command import Command, Trained
from _cpu import pretend
from bittern.cli.program import command as typed
from bittern.data import digits, normalize


@pytest.fixture
def digit(tmp_path: Path) -> tuple[Path, int]:
    """A picture of a test digit, eight times enlarged, and which it is."""
    data = digits()
    pixels = (data.test_images[0, 0].numpy() * 255).astype(np.uint8)
    path = tmp_path / "digit.png"
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(path)
    return path, int(data.test_labels[0])


def test_run_predicts_a_picture(command: Command, trained: Trained, digit: tuple[Path, int]) -> None:
    path, label = digit
    outcome = command("run", trained.packed, path)
    assert re.fullmatch(rf"{re.escape(str(path))}  {label} [\d.]+%\n", outcome.out)
    assert outcome.err == f"note: resized to 8 x 8: {path} (64 x 64)\n"


def test_run_computes_what_the_packed_model_does(command: Command, trained: Trained, digit: tuple[Path, int]) -> None:
    path, _ = digit
    out = json.loads(command.done("run", trained.packed, path, "--json", "--top", 10))
    assert out["image"] == str(path)
    found = {answer["class"]: answer["probability"] for answer in out["answers"]}
    data = digits()
    pixels = (data.test_images[:1] * 255).floor() / 255
    shares = bittern.load(trained.packed)(normalize(pixels, data.mean, data.std)).softmax(1)[0]
    assert [found[str(i)] for i in range(10)] == pytest.approx(shares.tolist(), abs=2e-6)
    ordered = [answer["probability"] for answer in out["answers"]]
    assert ordered == sorted(ordered, reverse=True)


@pytest.mark.parametrize("multiplies", [True, False])
def test_run_in_bfloat16_notes_where_it_is_slow(
    command: Command, trained: Trained, digit: tuple[Path, int], monkeypatch: pytest.MonkeyPatch, multiplies: bool
) -> None:
    path, label = digit
    pretend(monkeypatch, avx512_bf16=multiplies)
    outcome = command("run", trained.packed, path, "--bf16", "--json")
    assert json.loads(outcome.out)["answers"][0]["class"] == str(label)
    notes = outcome.err.splitlines()
    assert len(notes) == 1 + (not multiplies)  # one tells that the picture was resized
    assert multiplies or "several times as long as in float32" in notes[0]


def test_run_takes_several_and_inverts(command: Command, trained: Trained, digit: tuple[Path, int]) -> None:
    path, label = digit
    inverted = path.with_name("inverted.png")
    with Image.open(path) as image:
        Image.fromarray(255 - np.asarray(image)).convert("RGB").save(inverted)
    plain = json.loads(command.done("run", trained.packed, path, "--json"))["answers"]
    lines = command.done("run", trained.packed, inverted, path, "--json", "--invert").splitlines()
    assert [json.loads(line)["image"] for line in lines] == [str(inverted), str(path)]
    assert json.loads(lines[0])["answers"][0]["class"] == plain[0]["class"] == str(label)


@pytest.mark.parametrize("top", [0, 11])
def test_run_refuses_a_top_beyond_the_classes(
    command: Command, trained: Trained, digit: tuple[Path, int], top: int
) -> None:
    outcome = command("run", trained.packed, digit[0], "--top", top)
    assert outcome.status == 2
    assert f"--top must lie in 1 ... 10, the classes; got {top}" in outcome.error


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("mean", None, "does not say its mean; give --mean, or pack it again"),
        ("mean", "[NaN]", "mean must be finite"),
        ("mean", "[true]", "its mean is [true]; pack it again"),
        ("mean", "[", "its mean is not JSON"),
        ("mean", "[0.1, 0.2]", "mean needs one number for each of 1 channels; got 2; pack it again"),
        ("std", "[0.0]", "std must be finite and above 0; got (0.0,)"),
        ("std", '["a"]', 'its std is ["a"]; pack it again'),
        ("classes", '["a", "b"]', "classes need a name for each of 10 answers; got 2"),
        ("classes", "[]", "its classes is []"),
    ],
)
def test_run_refuses_wrong_notes(
    command: Command,
    trained: Trained,
    digit: tuple[Path, int],
    tmp_path: Path,
    key: str,
    text: str | None,
    message: str,
) -> None:
    packed = bittern.load(trained.packed)
    del packed.info[key]
    if text is not None:
        packed.info[key] = text
    packed.save(tmp_path / "packed")
    outcome = command("run", tmp_path / "packed", digit[0])
    assert outcome.status == 1
    assert message in outcome.error


def _without(trained: Trained, path: Path, *keys: str) -> Path:
    """The packed file without some entries."""
    packed = bittern.load(trained.packed)
    for key in keys:
        del packed.info[key]
    packed.save(path)
    return path


def test_run_names_all_missing_entries_at_once(
    command: Command, trained: Trained, digit: tuple[Path, int], tmp_path: Path
) -> None:
    bare = _without(trained, tmp_path / "bare", "classes", "mean", "std", "data")
    outcome = command("run", bare, digit[0])
    assert outcome.status == 1
    assert outcome.error == (
        f"{bare} does not say its mean and std; give --mean and --std, or pack it again with "
        "bittern.pack(model, example, mean=..., std=...)"
    )


def test_run_without_class_names_prints_numbers(
    command: Command, trained: Trained, digit: tuple[Path, int], tmp_path: Path
) -> None:
    data = digits()
    nameless = _without(trained, tmp_path / "nameless", "classes")
    bare = _without(trained, tmp_path / "bare", "classes", "mean", "std", "data")
    known = command.done("run", trained.packed, digit[0], "--top", 3)
    statistics = ("--mean", data.mean[0], "--std", data.std[0])
    assert command.done("run", nameless, digit[0], "--top", 3) == known
    assert command.done("run", bare, digit[0], "--top", 3, *statistics) == known
    assert command.done("run", bare, digit[0], "--top", 3, "--mean", 0.9, "--std", 2) != known


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mean", "a"), "--mean must be numbers with commas between, as in 0.49,0.48,0.45; got 'a'"),
        (("--std", "0"), "std must be finite and above 0"),
        (("--mean", "0.1,0.2"), "mean needs one number for each of 1 channels; got 2"),
    ],
)
def test_run_refuses_statistics_that_cannot_be(
    command: Command, trained: Trained, digit: tuple[Path, int], words: tuple[str, ...], message: str
) -> None:
    outcome = command("run", trained.packed, digit[0], *words)
    assert outcome.status == 2
    assert message in outcome.error


def test_run_answers_a_folder_in_batches(
    command: Command, trained: Trained, digit: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bittern.cli.run.BATCH", 2)
    path, label = digit
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    names = ["a.png", "b.png", "deep/c.png"]
    for name in names:
        (folder / name).write_bytes(path.read_bytes())
    (folder / "readme.txt").touch()
    outcome = command("run", trained.packed, folder)
    assert outcome.status == 0
    assert [line.split()[:2] for line in outcome.out.splitlines()] == [[f"{folder / n}", str(label)] for n in names]
    assert outcome.err.splitlines() == [
        "note: 1 files in folders are not named as images are, and were left out",
        f"note: resized to 8 x 8: {folder / 'a.png'} (64 x 64) and 2 more",
    ]


def test_run_answers_the_others_and_says_which_cannot_be_read(
    command: Command, trained: Trained, digit: tuple[Path, int], tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("hello")
    words = ("run", trained.packed, tmp_path / "text.png", digit[0], tmp_path / "none.png")
    outcome = command(*words)
    assert outcome.status == 1
    assert outcome.out.startswith(str(digit[0]))
    errors = [line for line in outcome.err.splitlines() if line.startswith("bittern: ")]
    assert "text.png is not an image that can be read" in errors[0]
    assert errors[1] == f"bittern: no image file {tmp_path / 'none.png'}"
    assert errors[2] == "bittern: 2 of 3 images could not be read; the others are answered"
    found = [json.loads(line) for line in command(*words, "--json").out.splitlines()]
    assert ["error" in entry for entry in found] == [True, False, True]
    assert found[1]["changes"] == ["resized to 8 x 8 (64 x 64)"]


def test_run_of_a_file_packed_in_python(command: Command, digit: tuple[Path, int], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()
    packed = bittern.pack(model, torch.randn(2, 1, 8, 8), classes=["\x1b[2Jcat", "dog", "newt"], mean=0.5, std=0.25)
    packed.save(tmp_path / "packed")
    out = command.done("run", tmp_path / "packed", digit[0], "--top", 3)
    assert sorted(re.findall(r"[^ ]*cat|dog|newt", out)) == [r"\x1b[2Jcat", "dog", "newt"]


def test_run_needs_a_network_that_classifies(command: Command, digit: tuple[Path, int], tmp_path: Path) -> None:
    bittern.pack(torch.nn.Conv2d(1, 2, 3).eval(), torch.randn(1, 1, 8, 8), mean=0, std=1).save(tmp_path / "a")
    bittern.pack(torch.nn.Linear(8, 2).eval(), torch.randn(1, 8)).save(tmp_path / "b")
    assert "answers with values of shape [2, 6, 6]" in command("run", tmp_path / "a", digit[0]).error
    assert "takes inputs of shape [8], which are no images" in command("run", tmp_path / "b", digit[0]).error


def test_what_is_no_packed_file_is_named(
    command: Command, trained: Trained, digit: tuple[Path, int], tmp_path: Path
) -> None:
    (tmp_path / "net.c").write_text("int main;")
    for first, message in (
        (tmp_path, "is a folder, and no run folder of 'bittern train'; give a packed file here"),
        (tmp_path / "net.c", "is no packed file but what 'bittern export' makes of one"),
        (digit[0], f"is an image; the packed file comes first, as in: {typed('run', 'FILE', digit[0])}"),
        (tmp_path / "none", "no file"),
    ):
        outcome = command("run", first, digit[0])
        assert outcome.status == 1
        assert message in outcome.error


def test_a_network_of_several_inputs_is_told_apart(command: Command, tmp_path: Path, digit: tuple[Path, int]) -> None:
    class Sum(torch.nn.Module):
        def forward(self, left: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return left.flatten(1) * time

    file = tmp_path / "sum"
    bittern.pack(Sum(), (torch.randn(2, 3, 4), torch.tensor(2))).save(file)
    assert f"{file} is called with left, time, and this command gives a network images alone" in (
        command("run", file, digit[0]).error
    )
    shown = command.done("info", file, "--plan")
    assert "takes left 3 x 4 float32; time one number int64, the same for all samples" in shown
