# SPDX-License-Identifier: Apache-2.0
"""Inputs of other codes than signs and DoReFa's levels: learned ranges, odd numbers, int8 with a scale of each row."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from _c_agreement import check_every_node
from _c_program import build
from _packed_files import program_file
from _quantizers import Ranged, Rows
from bittern import ops
from bittern.codes import Integers, Signs
from bittern.deploy import PackError, pack, verify
from bittern.deploy.errors import FormatError
from bittern.deploy.interpreter import Interpreter
from bittern.deploy.kinds.levels import row_position
from bittern.deploy.packed import from_bytes
from bittern.nn import BinaryConv1d, BinaryConv2d, BinaryLinear
from bittern.quantizer import LevelsCode, Method, RowCode

RANGED: dict[str, Method] = {
    "two": Ranged,
    "eight": partial(Ranged, bits=8),
    "one": partial(Ranged, bits=1),
    "odd": partial(Ranged, signed=True),
    "odd-one": partial(Ranged, bits=1, signed=True),
    "odd-three": partial(Ranged, bits=3, signed=True),
}
each_range = pytest.mark.parametrize("method", RANGED.values(), ids=RANGED.keys())

TIES = torch.tensor([-0.625, -0.375, -0.1875, 0.125, 0.375, 0.625, 0.875, 0.0, -0.0, 1e-45, -7.0, 7.0])
"""For a range of -0.625 ... 0.875: ends, halves, beyond."""


def images(method: Method) -> tuple[nn.Sequential, Tensor]:
    """Padding, groups, stride, dilation, bias; odd sizes, ties."""
    torch.manual_seed(0)
    conv = BinaryConv2d(
        6, 70, (3, 2), stride=(2, 1), dilation=(1, 2), groups=2, padding=(2, 1), bias=True, method=method
    )
    x = torch.randn(3, 6, 7, 7)
    x.view(-1)[: 12 * 7] = TIES.repeat(7)
    return nn.Sequential(conv).eval(), x


def assert_packs(model: nn.Module, x: Tensor) -> None:
    packed = pack(model, x)
    report = verify(packed, model, x)
    assert report.exact
    assert report.logits_identical
    again = from_bytes(packed.to_bytes())
    with torch.no_grad():
        expected = model(x)
        assert expected.unique().numel() > 2
        assert torch.equal(again(x), expected)
        assert torch.equal(Interpreter(packed.program, packed.tensors, packed.device)(x), expected)


def test_values_of_a_range() -> None:
    """-0.625 + 0.5 level: halves go to the even level."""
    low, width = torch.tensor(-0.625), torch.tensor(1.5)
    x = torch.tensor(
        [-9.0, -0.625, -0.375, -0.374, 0.125, 0.375, 0.376, 0.625, 9.0, float("nan"), -torch.inf, torch.inf]
    )
    level = torch.tensor([0.0, 0, 0, 1, 2, 2, 2, 2, 3, 0, 0, 3])
    assert torch.equal(LevelsCode(2, low, width).values(x), level)
    assert torch.equal(LevelsCode(2, low, width, signed=True).values(x), 2 * level - 3)
    assert LevelsCode(2, low, width).grid == Integers(0, 3)
    assert LevelsCode(2, low, width, signed=True).grid == Integers(-3, 3, 2)
    assert LevelsCode(1, low, width, signed=True).grid == Signs()


def test_without_a_range_it_is_dorefas() -> None:
    x = torch.cat([torch.randn(500), torch.arange(-1, 17) / 14, torch.tensor([-0.0, torch.inf, torch.nan])])
    for bits in (1, 2, 3, 8):
        assert torch.equal(LevelsCode(bits).values(x), ops.clipped_levels(x, bits)[0])


def test_values_of_rows() -> None:
    x = torch.tensor([[127.0, 0.5, 1.5, -2.5, -127.0], [0.0, 0.0, 0.0, -0.0, 0.0], [1e-5, -5e-6, 0.0, 1e-45, 2e-7]])
    code = RowCode()
    assert code.values(x).tolist() == [[127, 0, 2, -2, -127], [0] * 5, [127, -64, 0, 0, 3]]
    assert torch.equal(code.scale(x), torch.tensor([[1.0], [1e-5 / 127], [1e-5 / 127]]))
    assert code.grid == Integers(-128, 127)
    assert torch.equal(torch.round(row_position(x) * 255) - 128, code.values(x))
    nan = torch.tensor([[1.0, torch.nan], [torch.inf, 1.0]])
    assert code.values(nan).tolist() == [[-128, -128], [-128, 0]]
    assert not code.scale(nan).isfinite().any()


@each_range
def test_ranges_pack(method: Method) -> None:
    assert_packs(*images(method))


def test_one_dimension() -> None:
    torch.manual_seed(1)
    assert_packs(
        BinaryConv1d(5, 12, 3, padding=2, stride=2, bias=True, method=RANGED["odd"]).eval(), torch.randn(3, 5, 11)
    )


def rows_model() -> tuple[nn.Sequential, Tensor]:
    torch.manual_seed(2)
    model = nn.Sequential(BinaryLinear(65, 33, bias=True, method=Rows), nn.ReLU(), BinaryLinear(33, 7, method=Rows))
    x = torch.randn(2, 3, 65)
    x[0, 0], x[0, 1, :4] = 0.0, torch.tensor([127.0, 0.5, -1.5, 2.5])
    return model.eval(), x


def test_rows_pack_and_their_scale_reaches_the_file() -> None:
    model, x = rows_model()
    assert_packs(model, x)
    packed = pack(model, x)
    with torch.no_grad():
        assert torch.equal(packed(8 * x)[0, 2], model(8 * x)[0, 2])
        assert not torch.equal(packed(8 * x)[0, 2], packed(x)[0, 2])


def test_nan_rows_stay_nan() -> None:
    model, x = rows_model()
    packed = pack(model, x)
    x[1, 1, 4], x[1, 2, 0] = torch.nan, torch.inf
    with torch.no_grad():
        assert torch.equal(packed(x).isnan(), model(x).isnan())
        assert packed(x)[1, 1].isnan().all()
        assert packed(x)[0].isfinite().all()


@pytest.mark.parametrize("name", ["step", "low", "width"])
def test_what_is_learned_reaches_the_file(name: str) -> None:
    model, x = images(RANGED["odd"])
    with torch.no_grad():
        before = model(x)
        getattr(model[0].method, name).mul_(1.25)
        after = pack(model, x)(x)
        assert not torch.equal(after, before)
        assert torch.equal(after, model(x))


@pytest.mark.parametrize("make", [partial(images, RANGED["odd"]), partial(images, RANGED["eight"]), rows_model])
def test_c_code(make: Callable[[], tuple[nn.Sequential, Tensor]], tmp_path: Path) -> None:
    model, x = make()
    assert check_every_node(pack(model, x), x, build(pack(model, x), tmp_path)) > 0


@pytest.mark.parametrize("method", [BinaryConv1d, BinaryConv2d])
def test_rows_of_a_convolution_are_refused(method: type) -> None:
    with pytest.raises(ValueError, match=r"Rows scales each row of a linear layer's input; .* use a BinaryLinear"):
        method(4, 4, 3, method=Rows)


def test_padding_that_is_no_number_of_the_code_is_refused() -> None:
    with pytest.raises(ValueError, match="Ranged has inputs of 2 bits, which are padded with 0; got pad_value=1"):
        BinaryConv2d(4, 4, 3, padding=1, pad_value=1, method=partial(Ranged, signed=True))


@pytest.mark.parametrize(("name", "number"), [("width", 0.0), ("width", torch.nan), ("low", torch.inf)])
def test_ranges_that_are_none(name: str, number: float) -> None:
    layer = BinaryLinear(8, 2, method=Ranged)
    getattr(layer.method, name).data.fill_(number)
    with pytest.raises(PackError, match=r"layer '0' has input levels from .* over a width of .* and the width not 0"):
        pack(nn.Sequential(layer), torch.randn(1, 8))


def test_accumulators_beyond_float32_are_refused() -> None:
    with pytest.raises(PackError, match="beyond 2\\^24"):
        pack(nn.Sequential(BinaryLinear(2**15 + 200, 1, method=Rows)), torch.randn(1, 2**15 + 200))


@pytest.mark.parametrize(
    ("code", "pad", "message"),
    [("integers", 1, "levels are padded with 0"), ("odd", 1, "levels are padded with 0")],
)
def test_files_with_padding_that_has_no_bits(code: str, pad: int, message: str) -> None:
    flat = {"dims": 1, "channels": 8, "code": code}
    product = {**flat, "kernel": [3], "stride": [1], "padding": [1], "dilation": [1], "out_channels": 1}
    product |= {"input_planes": 2, "pad_value": pad}
    nodes = [["encode", "e", [0], {**flat, "planes": 2}, []], ["binary", "b", [1], product, ["weight"]]]
    with pytest.raises(FormatError, match=message):
        from_bytes(program_file(nodes, [8, 5], [("b.weight", "U8", [1, 3], bytes(3))]))
