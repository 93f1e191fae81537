# SPDX-License-Identifier: Apache-2.0
"""Programs of several inputs and several results as C, ONNX and ExecuTorch: they agree, or are refused by name."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from _c_program import STRICT
from _several_inputs import CASES, Case, Siamese
from bittern.binary import BNN
from bittern.deploy import ExportError, Packed, pack, to_c, to_executorch, to_onnx
from bittern.deploy.parameters import arguments_of, bound
from bittern.deploy.structure import named
from bittern.nn import BinaryConv2d

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


class Pair(nn.Module):
    """Two images, of which one is added behind a layer, and a third that is not read."""

    def __init__(self, several: bool) -> None:
        super().__init__()
        self.several = several
        self.one, self.two = (BinaryConv2d(3, 8, 3, padding=1, method=BNN) for _ in range(2))
        self.norm = nn.BatchNorm2d(8)

    def forward(self, left: Tensor, right: Tensor, unread: Tensor) -> Any:
        both = self.norm(self.one(left)) + self.two(right - 0.25)
        return {"both": both, "sides": (both.mean((2, 3)), left + right)} if self.several else both


def images(batch: int) -> tuple[Tensor, ...]:
    return tuple(torch.randn(batch, *shape) for shape in ((3, 5, 7), (3, 5, 7), (2, 2)))


def pair(several: bool) -> Packed:
    return pack(Pair(several).eval(), images(2))


# -- C -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_c_takes_an_argument_for_each_input(tmp_path: Path) -> None:
    packed = pair(several=False)
    made = to_c(packed, tmp_path / "net.c")
    assert made.input_sizes == (105, 105, 4)
    assert made.input_size == 214
    inputs = "const float *input_0, const float *input_1, const float *input_2"
    assert f"void net_run({inputs}, float *output)" in str(made)
    text = made.path.read_text()
    assert "input_1   105 floats, one sample (right): real [3, 5, 7]" in text
    assert "#define NET_INPUT_2_SIZE 4" in text
    library = tmp_path / "net.so"
    command = ["gcc", *STRICT, "-Wno-missing-prototypes", "-fPIC", "-shared", str(made.path), "-o", str(library), "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    net = ctypes.CDLL(str(library))
    for _ in range(3):
        given = [x.contiguous() for x in images(1)]
        output = torch.empty(1, 8, 5, 7)
        net.net_run(*(ctypes.c_void_p(x.data_ptr()) for x in (*given, output)))
        torch.testing.assert_close(output, packed(*given), rtol=1e-6, atol=1e-6)


def test_c_refuses_what_it_does_not_take(tmp_path: Path) -> None:
    for name, text in (
        ("an image, tokens and their mask", "input 'tokens' is int64"),
        ("a state", "input 'state.0' is float32 and has its batch in dimension 1"),
        ("a time for all samples", "input 'timestep' is int64 and has no batch"),
    ):
        packed = pack(CASES[name].build().eval(), CASES[name].example(2))
        with pytest.raises(ExportError, match=text):
            to_c(packed, tmp_path / "net.c")
    with pytest.raises(ExportError, match=r"'results' \(results\): has no C code"):
        to_c(pair(several=True), tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


# -- ONNX --------------------------------------------------------------------------------------------------


def onnx_answers(path: Path, names: list[str], inputs: list[Tensor]) -> dict[str, Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [given.name for given in session.get_inputs()] == names
    found = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    return {output.name: torch.from_numpy(y) for output, y in zip(session.get_outputs(), found, strict=True)}


@pytest.mark.peers("onnxscript", "onnxruntime")
@EVERY
def test_onnx(case: Case, tmp_path: Path) -> None:
    packed = pack(case.build().eval(), case.example(2))
    report = to_onnx(packed, tmp_path / "net.onnx", example=case.example(3))
    assert report is not None
    assert report.agrees, str(report)
    example = case.example(4)
    args, kwargs = arguments_of(example)
    expected = named(packed(*args, **kwargs))
    assert expected is not None
    inputs = bound(packed.program.parameters, args, kwargs)
    found = onnx_answers(tmp_path / "net.onnx", [given.name for given in packed.inputs], inputs)
    assert len(found) == len(expected)
    for got, wanted in zip(found.values(), expected.values(), strict=True):
        assert got.dtype == wanted.dtype
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.peers("onnxscript", "onnxruntime")
def test_onnx_of_inputs_that_are_not_read_and_results_within_results(tmp_path: Path) -> None:
    packed = pair(several=True)
    report = to_onnx(packed, tmp_path / "net.onnx")
    assert report is not None
    assert report.agrees, str(report)
    given = images(3)
    found = onnx_answers(tmp_path / "net.onnx", ["left", "right", "unread"], list(given))
    assert list(found) == ["both", "sides.0", "sides.1"]
    torch.testing.assert_close(found["sides.1"], packed(*given)["sides"][1])
    with pytest.raises(TypeError, match=r"to_onnx: the example does not fit the model: argument 'unread' is missing"):
        to_onnx(packed, tmp_path / "net.onnx", example=given[:2])


# -- ExecuTorch --------------------------------------------------------------------------------------------


@pytest.mark.peers("executorch")
@pytest.mark.parametrize("xnnpack", [True, False], ids=["xnnpack", "portable"])
@pytest.mark.parametrize("several", [False, True], ids=["one result", "several results"])
def test_executorch(several: bool, xnnpack: bool, tmp_path: Path) -> None:
    from _edge import built_kernels
    from bittern.deploy.executorch import load

    packed = pair(several)
    report = to_executorch(packed, tmp_path / "net.pte", kernels=built_kernels(), xnnpack=xnnpack)
    assert report is not None
    assert report.agrees, str(report)
    program = load(tmp_path / "net.pte")
    assert program.input_shapes == ((3, 5, 7), (3, 5, 7), (2, 2))
    given = images(3)
    found = program(*given)
    expected = tuple((named(packed(*given)) or {}).values())
    for got, wanted in zip(found if several else (found,), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="takes 3 inputs of as many samples; got inputs of 3, 3"):
        program(*given[:2])


@pytest.mark.peers("executorch")
def test_executorch_refuses_other_inputs(tmp_path: Path) -> None:
    case = CASES["a time for all samples"]
    packed = pack(case.build().eval(), case.example(2))
    with pytest.raises(ExportError, match=r"takes float32 .1, ....; input 'timestep' is int64 and has no batch"):
        to_executorch(packed, tmp_path / "net.pte", verify=False)


@pytest.mark.peers("executorch")
def test_executorch_of_one_trunk_for_two_images(tmp_path: Path) -> None:
    from _edge import built_kernels

    packed = pack(Siamese().eval(), CASES["two images"].example(2))
    report = to_executorch(packed, tmp_path / "net.pte", kernels=built_kernels())
    assert report is not None
    assert report.agrees, str(report)
