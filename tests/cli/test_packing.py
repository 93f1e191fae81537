# SPDX-License-Identifier: Apache-2.0
"""`bittern pack` and `bittern info`."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

import bittern
from _command import Command, Trained
from _tflite_cases import cases
from bittern.binary import XNORNet
from bittern.cli import run_folder
from bittern.cli.program import command as typed
from bittern.data import digits, normalize
from bittern.nn import BinaryLinear


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


@pytest.mark.parametrize("name", ["net.c", "net.pte", "net.pt"])
def test_pack_refuses_the_names_of_other_files(command: Command, trained: Trained, tmp_path: Path, name: str) -> None:
    outcome = command("pack", trained.folder, "-o", tmp_path / name)
    assert outcome.status == 2
    assert "name it net.safetensors" in outcome.error
    assert list(tmp_path.iterdir()) == []


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
    assert [(row[0], row[1]) for row in rows] == [(group.how, group.name) for group in engine.groups]
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
    model = torch.nn.Sequential(BinaryLinear(8, 8, method=XNORNet), torch.nn.Flatten())
    bittern.pack(model.eval(), torch.randn(1, 2, 4, 8)).save(tmp_path / "packed")
    rows = _plan(command.done("info", tmp_path / "packed", "--plan", "--no-time"))
    reasons = [(row[0], row[1], row[-1]) for row in rows]
    why = "it multiplies rows of a sample in several dimensions, or beside low-bit layers of signals"
    assert ("own call", "0", f"not fused: {why}") in reasons


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


@pytest.mark.parametrize("name", ["run", "info"])
def test_training_files_are_sent_to_pack(command: Command, trained: Trained, name: str) -> None:
    more = ("digit.png",) if name == "run" else ()
    for target in (trained.folder, trained.folder / run_folder.CHECKPOINT):
        outcome = command(name, target, *more)
        assert outcome.status == 1
        assert f"{target} is not packed; pack it first: {typed('pack', target, '-o')}" in outcome.error


def test_eval_refuses_another_data_set(command: Command, trained: Trained, tmp_path: Path) -> None:
    packed = bittern.load(trained.packed)
    packed.info["classes"] = json.dumps([f"kind {i}" for i in range(10)])
    packed.save(tmp_path / "packed")
    outcome = command("eval", tmp_path / "packed", "--data", "digits")
    assert outcome.status == 1
    assert "give its own data set" in outcome.error


def test_eval_names_everything_that_a_file_lacks(command: Command, trained: Trained, tmp_path: Path) -> None:
    packed = bittern.load(trained.packed)
    del packed.info["classes"], packed.info["std"]
    packed.save(tmp_path / "packed")
    outcome = command("eval", tmp_path / "packed", "--data", "digits")
    assert outcome.status == 1
    assert "does not say its classes and std; pack it again" in outcome.error


def test_eval_of_a_file_from_python(command: Command, trained: Trained, tmp_path: Path) -> None:
    _, network = run_folder.trained(trained.folder)
    data = digits()
    example = normalize(data.test_images[:1], data.mean, data.std)
    bittern.pack(network, example, data=data).save(tmp_path / "a")
    assert command.done("eval", tmp_path / "a").split(":")[1] == command.done("eval", trained.packed).split(":")[1]
    elsewhere = dataclasses.replace(data, name="pictures")
    bittern.pack(network, example, data=elsewhere).save(tmp_path / "b")
    outcome = command("eval", tmp_path / "b")
    assert outcome.status == 1
    assert "was trained on 'pictures' and does not say where it lies; give --data FOLDER" in outcome.error
    assert "accuracy" in command.done("eval", tmp_path / "b", "--data", "digits")


def test_networks_of_tensorflow_lite_are_taken_as_packed_files(command: Command, tmp_path: Path) -> None:
    (network,) = (case for case in cases() if case.label == "conv-each=True")
    (tmp_path / "net.tflite").write_bytes(network.made()[0])
    said = command.done("info", tmp_path / "net.tflite")
    assert "0 one-bit weights, 288 weights of 8 bits and 24 other numbers: 0.0% have one bit" in said
    assert re.search(r"weights of low-bit layers +288 ", said)
    exported = command.done("export", tmp_path / "net.tflite", tmp_path / "net.c")
    assert "net_run(const int8_t *input, int8_t *output)" in exported
    (tmp_path / "bad.tflite").write_bytes(b"no flatbuffer")
    assert "bytes 4 to 8 must be b'TFL3'" in command("info", tmp_path / "bad.tflite").error
