"""`bittern pack`, `bittern info` and `bittern run`."""

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
from bittern.binary import XNORNet
from bittern.cli import run_folder
from bittern.data import digits, normalize
from bittern.deploy.describe import how, layer_name
from bittern.nn import BinaryConv2d


@pytest.fixture
def digit(tmp_path: Path) -> tuple[Path, int]:
    """A picture of a test digit, eight times enlarged, and which it is."""
    data = digits()
    pixels = (data.test_images[0, 0].numpy() * 255).astype(np.uint8)
    path = tmp_path / "digit.png"
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(path)
    return path, int(data.test_labels[0])


def test_packed_file_knows_its_images(trained: Trained) -> None:
    packed = bittern.load(trained.packed)
    data = digits()
    assert json.loads(packed.info["classes"]) == list(data.classes)
    assert json.loads(packed.info["mean"]) == pytest.approx(list(data.mean))
    assert packed.info["method"] == "XNORNetPlusPlus"
    assert packed.info["network"] == "mlp"


def test_pack_compares(command: Command, trained: Trained, tmp_path: Path) -> None:
    out = command.done("pack", trained.folder, "-o", tmp_path / "packed")
    size = (tmp_path / "packed").stat().st_size
    assert f"{size:,} bytes, compared on 256 test images of digits" in out
    assert "exact: yes" in out
    assert (tmp_path / "packed").read_bytes() == trained.packed.read_bytes()


@pytest.mark.parametrize("inside", ["", run_folder.CHECKPOINT])
def test_pack_does_not_overwrite_the_run(command: Command, trained: Trained, inside: str) -> None:
    target = trained.folder / inside
    outcome = command("pack", trained.folder, "-o", target)
    assert outcome.status == 2
    assert "name another file" in outcome.error


def test_pack_into_a_missing_folder_is_one_line(command: Command, trained: Trained, tmp_path: Path) -> None:
    outcome = command("pack", trained.folder, "-o", tmp_path / "no" / "packed")
    assert outcome.status == 1
    assert "cannot write" in outcome.error


def test_pack_refuses_a_disagreeing_model(
    command: Command, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        exact = False

        def __str__(self) -> str:
            return "exact: NO\nthey differ"

    monkeypatch.setattr("bittern.deploy.verify", lambda *arguments: Wrong())
    outcome = command("pack", trained.folder, "-o", tmp_path / "packed")
    assert outcome.status == 1
    assert "disagrees with the trained one, nothing was written: exact: NO they differ" in outcome.error
    assert not (tmp_path / "packed").exists()


def test_info_adds_up(command: Command, trained: Trained) -> None:
    out = command.done("info", trained.packed)
    size = trained.packed.stat().st_size
    rows = re.findall(r"^(\w[\w ,-]*?) +([\d,]+)(?: +([\d.]+)%)? *$", out, re.MULTILINE)
    counts = {name: int(count.replace(",", "")) for name, count, _ in rows}
    assert counts["file"] == size
    assert sum(count for name, count in counts.items() if name != "file") == size
    assert counts["weights of low-bit layers"] == 2 * 256 * 256 // 8
    assert f"{2 * 256 * 256:,} one-bit weights" in out
    assert "method: XNORNetPlusPlus" in out


def _plan(text: str) -> list[list[str]]:
    """Cells of the plan's rows: columns are two spaces apart."""
    lines = text.split("plan\n")[1].split("\n\n")[0].splitlines()[2:]
    return [re.split(r" {2,}", line.strip()) for line in lines]


def test_info_shows_the_plan_as_it_runs(command: Command, trained: Trained) -> None:
    engine = bittern.load(trained.packed).engine
    out = command.done("info", trained.packed, "--plan", "--no-time")
    rows = _plan(out)
    assert [(row[0], row[1]) for row in rows] == [(how(item), layer_name(item)) for item in engine.items]
    assert ["block", "features.4", "256 -> 256", "factors, norm, hardtanh, sign only"] in rows
    kinds = [row[0] for row in rows]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    assert out.endswith(f"\n{len(rows)} items: {counts}\n")


def test_info_times_the_plan(command: Command, trained: Trained) -> None:
    out = command.done("info", trained.packed, "--plan")
    for row in _plan(out):
        numbers = row[4:]
        assert len(numbers) == (2 if row[0] == "block" else 1)
        assert all(re.fullmatch(r"[\d,]+", number) for number in numbers)
    assert re.search(r"\d us with \d+ thread\(s\)\n$", out)


def test_info_says_why_a_product_is_not_fused(command: Command, tmp_path: Path) -> None:
    model = torch.nn.Sequential(BinaryConv2d(8, 8, 3, padding=1, method=XNORNet), torch.nn.Flatten())
    bittern.pack(model.eval(), torch.randn(1, 8, 4, 4)).save(tmp_path / "packed")
    rows = _plan(command.done("info", tmp_path / "packed", "--plan", "--no-time"))
    assert ["own call", "0", "3x3 8 -> 8 at 4x4", "not fused: its scale depends on the input"] in rows


def test_info_without_a_plan_has_no_time_to_leave_out(command: Command, trained: Trained) -> None:
    outcome = command("info", trained.packed, "--no-time")
    assert outcome.status == 2
    assert "give --plan too" in outcome.error


def test_info_of_a_hostile_file_cannot_steer_the_terminal(command: Command, trained: Trained, tmp_path: Path) -> None:
    packed = bittern.load(trained.packed)
    packed.info["note"] = "\x1b[2Jgone [bold]x"
    packed.save(tmp_path / "hostile")
    out = command.done("info", tmp_path / "hostile", "--plan")
    assert "\x1b" not in out
    assert r"note: \x1b[2Jgone [bold]x" in out


def test_run_predicts_a_picture(command: Command, trained: Trained, digit: tuple[Path, int]) -> None:
    path, label = digit
    out = command.done("run", trained.packed, path)
    assert re.fullmatch(rf"{re.escape(str(path))}  {label} [\d.]+%\n", out)


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


@pytest.mark.parametrize("name", ["run", "info"])
def test_training_files_are_sent_to_pack(
    command: Command, trained: Trained, digit: tuple[Path, int], name: str
) -> None:
    more = (digit[0],) if name == "run" else ()
    for target in (trained.folder, trained.folder / run_folder.CHECKPOINT):
        outcome = command(name, target, *more)
        assert outcome.status == 1
        assert f"{target} is not packed; pack it first: bittern pack {target}" in outcome.error


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("classes", None, "does not say its classes; pack with 'bittern pack'"),
        ("mean", "[", "its mean is not JSON"),
        ("mean", "[0.1, 0.2]", "do not fit images with 1 channels"),
        ("std", "[0.0]", "do not fit images with 1 channels"),
        ("std", '["a"]', 'its std is ["a"]; pack it again'),
        ("classes", '["a", "b"]', "names 2 classes"),
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


def test_eval_refuses_another_data_set(command: Command, trained: Trained, tmp_path: Path) -> None:
    packed = bittern.load(trained.packed)
    packed.info["classes"] = json.dumps([f"kind {i}" for i in range(10)])
    packed.save(tmp_path / "packed")
    outcome = command("eval", tmp_path / "packed", "--data", "digits")
    assert outcome.status == 1
    assert "give its own data set" in outcome.error
