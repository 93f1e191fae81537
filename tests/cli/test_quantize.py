# SPDX-License-Identifier: Apache-2.0
"""`bittern quantize`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import bittern
from _command import Command, Trained

OWN = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))

def inputs():
    return torch.randn(16, 6, generator=torch.Generator().manual_seed(1))

def worth(own):
    return -float((own(inputs()) - network()(inputs())).abs().max())
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own_network_for_quantize.py"
    path.write_text(OWN)
    return path


def test_a_network_of_the_users(command: Command, own: Path, tmp_path: Path) -> None:
    packed, page = tmp_path / "net.bit", tmp_path / "net.html"
    given = ("--calibration", f"{own}:inputs", "--layer", "2=4,8", "--observer", "least_squares", "--page", page)
    out = command.done("quantize", f"{own}:network", "-o", packed, *given)
    assert "W8A8" in out
    assert "W4A8" in out
    assert "2 layers, none stays float" in out
    assert f"{packed.stat().st_size:,} bytes" in out
    assert bittern.load(packed)(torch.zeros(2, 6)).shape == (2, 3)
    assert "net.bit: a network of integers" in page.read_text()
    assert "15 weights of 4 bits, 30 weights of 8 bits" in command.done("info", packed)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say with --calibration"),
        (("--observer", "min_mx"), "did you mean min_max?"),
        (("--layer", "2=4"), "must be PATTERN=WEIGHTS,INPUTS"),
        (("-o", "net.onnx"), "name it net.safetensors"),
        (("--weight-steps", "least"), "did you mean least-squares?"),
        (("--brecq", "--qdrop"), "--brecq and --qdrop: a network is rounded in one way"),
        (("--budget", "60 apples"), "--budget must be a size above 0"),
        (("--floor", "2"), "give all three"),
        (("--budget", "60kB", "--metric", "some.py:worth"), "give all three"),
        (("--iterations", "5"), "--iterations is of a rounding that is learned"),
    ],
)
def test_what_cannot_be_understood(
    command: Command, own: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    outcome = command("quantize", f"{own}:network", "-o", tmp_path / "net.bit", *words)
    assert outcome.status == 2
    assert said in outcome.error


def test_a_run_of_bits_has_nothing_to_quantize_but_its_head(command: Command, trained: Trained, tmp_path: Path) -> None:
    out = command.done("quantize", trained.folder, "-o", tmp_path / "net.bit", "--samples", 8)
    assert "its numbers have few bits already" in out
    packed = bittern.load(tmp_path / "net.bit")
    assert packed.info["method"] == "XNORNetPlusPlus"


@pytest.mark.parametrize("option", ["--adaround", "--brecq", "--qdrop"])
def test_rounding_that_is_learned(command: Command, own: Path, tmp_path: Path, option: str) -> None:
    own = own.rename(tmp_path / f"own_network_{option.strip('-')}.py")  # a module is loaded once
    packed, page = tmp_path / "net.bit", tmp_path / "net.html"
    given = ("--weights", 3, "--weight-steps", "least-squares", option, "--iterations", 5, "--page", page)
    out = command.done("quantize", f"{own}:network", "-o", packed, "--calibration", f"{own}:inputs", *given)
    assert "rounded together" in out
    assert "Learned rounding" in page.read_text()
    assert "45 weights of 3 bits" in command.done("info", packed)


def test_a_budget_with_a_floor(command: Command, own: Path, tmp_path: Path) -> None:
    own = own.rename(tmp_path / "own_network_with_a_budget.py")  # a module is loaded once
    packed, given = tmp_path / "net.bit", ("--calibration", f"{own}:inputs")
    command.done("quantize", f"{own}:network", "-o", packed, *given)
    limit = packed.stat().st_size + 400
    floor = ("--floor", 0.5, "--metric", f"{own}:worth")
    out = command.done("quantize", f"{own}:network", "-o", packed, *given, "--budget", f"{limit}B", *floor)
    assert packed.stat().st_size <= limit
    assert f" of {limit:,} bytes; metric -0." in out
    outcome = command("quantize", f"{own}:network", "-o", packed, *given, "--budget", "1us")
    assert outcome.status == 1
    assert "no bit widths keep the budget of 1.0 us" in outcome.error


PICTURES = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))

def inputs():
    return torch.randn(16, 3, 6, 6, generator=torch.Generator().manual_seed(1))
"""


def test_integers_in_and_out(command: Command, tmp_path: Path) -> None:
    own, packed, picture = tmp_path / "own_network_of_pictures.py", tmp_path / "net.bit", tmp_path / "grey.png"
    own.write_text(PICTURES)
    Image.new("RGB", (6, 6), (130, 128, 120)).save(picture)
    given = ("quantize", f"{own}:network", "-o", packed, "--calibration", f"{own}:inputs")
    command.done(*given)
    wanted = command.done("run", packed, picture, "--mean", 0.5, "--std", 0.25)
    command.done(*given, "--input-type", "int8", "--output-type", "int8")
    loaded = bittern.load(packed)
    assert (loaded.inputs[0].type, loaded(torch.zeros(1, 3, 6, 6, dtype=torch.int8)).dtype) == ("int8", torch.int8)
    assert command.done("run", packed, picture, "--mean", 0.5, "--std", 0.25) == wanted
    outcome = command(*given, "--input-type", "uint8")
    assert outcome.status == 1
    assert "takes the bytes of images; give mean= and std=" in outcome.error
    outcome = command(*given, "--output-type", "int4")
    assert "output_type must be one of float32, int8; got 'int4'" in outcome.error
