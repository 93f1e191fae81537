# SPDX-License-Identifier: Apache-2.0
"""Files whose sizes a call chooses, from `bittern pack --dynamic` to every command with `--size`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import bittern
from _command import Command, Trained
from bittern.binary import BNN
from bittern.nn import BinaryConv2d

SMALLER = ("--size", "height=8", "--size", "width=8")


class Any2d(nn.Module):
    """Classes of images of any size."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), BinaryConv2d(4, 10, 3, 2, 1, method=BNN))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))


@pytest.fixture(scope="module")
def open_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed file of images of any height and width."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("open") / "any.safetensors"
    example = torch.rand(1, 1, 6, 7)
    packed = bittern.pack(Any2d().eval(), example, dynamic={2: "height", 3: "width"}, mean=0.5, std=0.25)
    packed.save(path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.linear_gradient("L").resize((8, 8)).save(path)
    return path


def test_pack_names_dimensions(command: Command, trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "open"
    out = command.done("pack", trained.folder, "-o", path, "--dynamic", "2=rows", "--dynamic", "3=columns")
    assert "exact: yes" in out
    packed = bittern.load(path)
    assert [(size.name, size.example) for size in packed.sizes] == [("rows", 8), ("columns", 8)]
    x = torch.randn(2, 1, 4, 16)
    assert torch.equal(packed(x), packed.at(rows=4, columns=16)(x))
    out = command.done("eval", path, "--size", "rows=8", "--size", "columns=8", "--json")
    assert json.loads(out)["accuracy"] == json.loads(command.done("eval", trained.packed, "--json"))["accuracy"]


@pytest.mark.parametrize(
    ("wishes", "status", "message"),
    [
        (["height"], 2, "--dynamic must be DIM=NAME, as in 2=height; got 'height'"),
        (["height=2"], 2, "--dynamic must be DIM=NAME"),
        (["2="], 2, "--dynamic must be DIM=NAME"),
        (["-1=width"], 2, "--dynamic must be DIM=NAME"),
        (["2=height", "2=rows"], 2, "--dynamic names dimension 2 twice, 'height' and 'rows'"),
        (["0=samples"], 2, "dimension 0 is the batch"),
        (["4=depth"], 1, "input 'x' has the dimensions 0 ... 3; got 4"),
        (["2=batch"], 1, "must have a name, as a variable has"),
    ],
)
def test_pack_refuses_other_wishes(
    command: Command, trained: Trained, tmp_path: Path, wishes: list[str], status: int, message: str
) -> None:
    words = [word for wish in wishes for word in ("--dynamic", wish)]
    outcome = command("pack", trained.folder, "-o", tmp_path / "packed", *words)
    assert outcome.status == status
    assert message in outcome.error
    assert not (tmp_path / "packed").exists()


def test_run_at_sizes(command: Command, open_file: Path, picture: Path) -> None:
    out = json.loads(command.done("run", open_file, picture, "--json", *SMALLER))
    with Image.open(picture) as image:
        pixels = torch.from_numpy(np.array(image)).view(1, 1, 8, 8) / 255
    shares = bittern.load(open_file)((pixels - 0.5) / 0.25).softmax(1)[0]
    assert out["answers"][0]["class"] == str(int(shares.argmax()))
    assert out["answers"][0]["probability"] == pytest.approx(float(shares.max()), abs=2e-6)


def test_export_at_sizes(command: Command, open_file: Path, tmp_path: Path) -> None:
    command.done("export", open_file, tmp_path / "net.c", *SMALLER)
    bittern.deploy.to_c(bittern.load(open_file).at(height=8, width=8), tmp_path / "again.c", "net")
    assert (tmp_path / "net.c").read_bytes() == (tmp_path / "again.c").read_bytes()


def test_info_shows_the_plan_at_sizes(command: Command, open_file: Path) -> None:
    assert re.search(r"^plan, height=6, width=7$", command.done("info", open_file, "--plan", "--no-time"), re.MULTILINE)
    out = command.done("info", open_file, "--plan", "--no-time", *SMALLER)
    assert re.search(r"^plan, height=8, width=8$", out, re.MULTILINE)
    assert "4x4" in out


@pytest.mark.parametrize("command_name", ["run", "eval", "export"])
def test_sizes_must_be_chosen(
    command: Command, open_file: Path, picture: Path, tmp_path: Path, command_name: str
) -> None:
    behind: list[object] = {"run": [picture], "eval": [], "export": [tmp_path / "net.c"]}[command_name]
    for sizes, status, message in (
        ([], 1, "leaves 'height' and 'width' to each call; choose, as in --size height=6 --size width=7"),
        (["--size", "height=8"], 2, "leaves 'height' and 'width' to each call; give each once"),
        (["--size", "height=8", "--size", "height=8"], 2, "give each once, as in --size height=6 --size width=7"),
        ([*SMALLER, "--size", "depth=2"], 2, "give each once"),
        (["--size", "height"], 2, "--size must be NAME=NUMBER, as in height=64; got 'height'"),
        (["--size", "height=x"], 2, "--size must be NAME=NUMBER"),
        (["--size", "height=0", "--size", "width=8"], 1, "size 'height' must be at least 1; got 0"),
    ):
        outcome = command(command_name, open_file, *behind, *sizes)
        assert (outcome.status, message in outcome.error) == (status, True), outcome.error
    assert not (tmp_path / "net.c").exists()


@pytest.mark.peers("onnxscript")
def test_onnx_leaves_sizes_to_each_call(command: Command, open_file: Path, tmp_path: Path) -> None:
    import onnx

    command.done("export", open_file, tmp_path / "net.onnx", "--no-verify")
    assert onnx.load(tmp_path / "net.onnx").doc_string.startswith("height: at least 1. width: at least 1.")


def test_sizes_that_mean_nothing_are_refused(command: Command, trained: Trained, open_file: Path) -> None:
    outcome = command("eval", trained.packed, *SMALLER)
    assert outcome.status == 2
    assert "leaves no size to a call; leave it out" in outcome.error
    outcome = command("eval", trained.folder, *SMALLER)
    assert outcome.status == 2
    assert "is a trained network, and none of its sizes is chosen" in outcome.error
    outcome = command("info", open_file, *SMALLER)
    assert outcome.status == 2
    assert "give --plan too" in outcome.error
