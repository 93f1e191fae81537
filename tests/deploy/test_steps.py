# SPDX-License-Identifier: Apache-2.0
"""Grids that do not lie about 0: weights as planes and one of ones, inputs whose level of 0 is any of theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from _c_agreement import check_every_node
from _c_program import build
from _packed_files import program_file
from _stepped import GRIDS, STEP, Stepped, network
from _tolerance import assert_exact
from bittern.codes import Integers
from bittern.deploy import PackError, pack, to_onnx, verify
from bittern.deploy.engine.groups.block import Block
from bittern.deploy.errors import FormatError
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.quantizer import Method, StepsCode

each_grid = pytest.mark.parametrize("method", GRIDS.values(), ids=GRIDS.keys())


def test_values_of_steps() -> None:
    """Halves go to the even number, whatever the lowest is."""
    x = torch.tensor([-9.0, -0.625, -0.375, -0.125, -0.0, 0.125, 0.126, 0.375, 0.625, 9.0, torch.nan, -torch.inf])
    numbers = [-2.0, -2, -2, 0, 0, 0, 1, 2, 2, 5, 0, -2]
    assert StepsCode(3, torch.tensor(STEP), 2).values(x).tolist() == numbers
    assert StepsCode(3, torch.tensor(STEP), 2).grid == Integers(-2, 5)
    moved = StepsCode(2, torch.tensor(STEP), 0, torch.tensor(-0.25))
    assert moved.values(torch.tensor([-0.25, -0.125, 0.0, 0.125, 0.25, 0.5, 5.0])).tolist() == [0, 0, 1, 2, 2, 3, 3]


@each_grid
def test_packed_equals_trained(method: Method) -> None:
    model, x = network(method)
    packed = pack(model, x)
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    again = from_bytes(packed.to_bytes())
    with torch.no_grad():
        expected = model(x)
        assert expected.unique().numel() > 5
        assert torch.equal(again(x), expected)
        assert torch.equal(Interpreter(packed.program, packed.tensors, packed.device)(x), expected)
    assert sum(isinstance(group, Block) for group in packed._engine.groups) == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["w8-a6-zero-points", "origin"])
def test_c_code(name: str, tmp_path: Path) -> None:
    model, x = network(GRIDS[name])
    x[0, 0, 0, 0] = torch.nan
    packed = pack(model, x)
    assert check_every_node(packed, x, build(packed, tmp_path)) > 0


def test_a_weight_takes_the_bits_of_its_levels() -> None:
    """64 x 8 weights of 4 bits, and beside them one scale a row, and the step of the input."""
    packed = pack(nn.Sequential(BinaryLinear(64, 8, method=Stepped)), torch.randn(1, 64))
    assert packed.nbytes == 64 * 8 // 2 + 8 * 4 + 4


def test_padding_is_a_real_0() -> None:
    """A window of one tap, beside the image: whatever the level of 0 is, its product is 0."""
    for method in GRIDS.values():
        layer = BinaryConv2d(3, 4, 1, padding=1, method=method).eval()
        y = pack(nn.Sequential(layer), torch.randn(1, 3, 2, 2))(torch.randn(1, 3, 2, 2))
        assert_exact(y[:, :, 0].abs(), torch.zeros(1, 4, 4))


@pytest.mark.peers("onnx", "onnxscript", "onnxruntime")
def test_onnx(tmp_path: Path) -> None:
    for name in ("w4-a3", "w8-a6-zero-points"):
        model, x = network(GRIDS[name])
        report = to_onnx(pack(model, x), tmp_path / f"{name}.onnx", example=x)
        assert report is not None
        assert report.agrees


def test_grids_that_are_no_planes_are_refused() -> None:
    class Far(Stepped):
        def weight_code(self) -> Integers:
            return Integers(*self.grid)

        grid: tuple[int, int, int] = (1, 4, 1)

    for grid in ((1, 4, 1), (-1, 3, 1), (0, 6, 2)):
        layer = BinaryLinear(8, 2, method=type("Far", (Far,), {"grid": grid}))
        with pytest.raises(PackError, match=r"as many as so many bits have, in steps of 1 with 0 among them"):
            pack(nn.Sequential(layer), torch.randn(1, 8))


@pytest.mark.parametrize("step", [0.0, -1.0, torch.nan, torch.inf])
def test_steps_that_are_none(step: float) -> None:
    layer = BinaryLinear(8, 2, method=Stepped)
    layer.method.step.data.fill_(step)
    with pytest.raises(PackError, match=r"layer '0' has inputs in steps of .* one finite number above 0"):
        pack(nn.Sequential(layer), torch.randn(1, 8))


@pytest.mark.parametrize(
    ("of_input", "of_weight", "message"),
    [
        ({"zero_level": 4}, {}, "zero_level must be one of the levels of integers"),
        ({"code": "levels", "zero_level": 1}, {}, "zero_level must be one of the levels of integers"),
        ({}, {"weight_low": -4}, r"weights from weight_low on .* 0 is one of them; got -4 ... -1"),
        ({}, {"weight_low": -1, "weight_levels": 3}, r"are as many as their planes spell"),
        ({}, {"weight_low": 1}, "weight_low"),
    ],
)
def test_files_of_codes_that_are_none(of_input: dict[str, int], of_weight: dict[str, int], message: str) -> None:
    flat = {"dims": 0, "channels": 8, "code": "integers", **of_input}
    product = {**flat, "kernel": [], "stride": [], "padding": [], "dilation": [], "out_channels": 1}
    product |= {"input_planes": 2, "weight_planes": 2, **of_weight}
    nodes = [["encode", "e", [0], {**flat, "planes": 2}, []], ["binary", "b", [1], product, ["weight"]]]
    with pytest.raises(FormatError, match=message):
        from_bytes(program_file(nodes, [8], [("b.weight", "U8", [2, 1], bytes(2))]))
