# SPDX-License-Identifier: Apache-2.0
"""Models whose sizes a call chooses, in other runtimes and on the command line: written for one choice of sizes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from bittern.binary import BNN
from bittern.cli import app
from bittern.deploy import ExportError, Packed, pack, to_c, to_executorch, to_onnx
from bittern.deploy.interpreter import Interpreter
from bittern.nn import BinaryConv2d


class Windows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = BinaryConv2d(3, 8, 3, 2, 1, method=BNN), BinaryConv2d(8, 4, 3, method=BNN)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.norm(self.one(x))).mean((2, 3))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


@lru_cache(maxsize=1)
def windows() -> Packed:
    return pack(Windows().eval(), torch.randn(2, 3, 9, 8), dynamic={2: "height", 3: "width"})


def test_c_is_written_for_one_choice(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"leaves height, width to each call; .*packed.at\(height=9, width=8\)"):
        to_c(windows(), tmp_path / "net.c")
    assert not list(tmp_path.iterdir())
    made = to_c(windows().at(height=11, width=7), tmp_path / "net.c")
    assert made.input_sizes == (3 * 11 * 7,)


@pytest.mark.peers("onnxscript", "onnxruntime")
def test_onnx_is_written_for_one_choice(tmp_path: Path) -> None:
    report = to_onnx(windows().at(height=11, width=7), tmp_path / "net.onnx")
    assert report is not None
    assert report.agrees, str(report)


@pytest.mark.peers("executorch")
def test_executorch_is_written_for_one_choice(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"leaves height, width to each call"):
        to_executorch(windows(), tmp_path / "net.pte", verify=False)


def test_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    windows().save(path)
    result = CliRunner().invoke(app, ["info", str(path), "--plan", "--no-time"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "takes 3 x height x width" in result.output
    assert "height is chosen by each call: from 5" in result.output
    assert "plan, height=9, width=8" in result.output
    result = CliRunner().invoke(app, ["run", str(path), str(tmp_path)])
    assert result.exit_code != 0
    assert "leaves 'height' and 'width' to each call; choose, as in --size" in result.output + str(result.exception)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu() -> None:
    packed = windows().to("cuda")
    assert isinstance(packed.at(height=7, width=6)._engine, Interpreter)
    x = torch.randn(3, 3, 7, 6)
    torch.testing.assert_close(packed(x.cuda()).cpu(), windows()(x))
