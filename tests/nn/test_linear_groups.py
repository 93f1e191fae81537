# SPDX-License-Identifier: Apache-2.0
"""LinearGroups: how it rounds, that it holds the codes of others exactly, trains what is around it, and its files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from _tolerance import assert_exact, assert_reduction
from bittern.codes import Integers, PerInputGroup
from bittern.nn import LinearGroups, load_quantized, quantize, save_quantized, summary
from bittern.ops.linear_groups.layout import pack_codes, unpack_codes


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"bits": 2, "group": 32, "zero_point": True},
    {"bits": 3, "group": None, "scale_dtype": torch.float16},
    {"bits": 4, "group": 128, "zero_point": True, "scale_dtype": torch.float16, "activations": "int8"},
    {"bits": 8, "group": 32, "activations": "int8"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_every_weight_is_rounded_to_the_nearest_code(options: dict[str, Any]) -> None:
    """|W - W'| <= scale / 2, but where the shorter side of a symmetric group is cut off, at its last number."""
    linear = nn.Linear(100, 21)
    with torch.no_grad():
        linear.weight.mul_(torch.randn(21, 1).exp()).add_(torch.randn(21, 1) / 20)
        linear.weight[3], linear.weight[4] = 0.0, 1e-41
    layer = LinearGroups.from_float(linear, **options)
    weight, found, group = linear.weight.detach().double(), layer.dequantize().double(), layer.group or 100
    scale = layer.scales().double().repeat_interleave(group, 1)[:, :100]
    error = (weight - found).abs()
    cut_off = torch.zeros_like(error, dtype=torch.bool)
    if layer.zero is None:
        cut_off = layer.integers() == 2 ** (layer.bits - 1) - 1
    assert (error <= scale.abs() * torch.where(cut_off, 1.001, 0.501) + 1e-40).all()
    assert cut_off.double().mean() < 0.3
    assert not found[3:5].any()
    assert_exact(layer.dequantize(torch.bfloat16), layer.dequantize().bfloat16())
    assert layer.weight_code().contains(layer.integers())
    assert layer.bias is linear.bias


def test_rounding_by_hand() -> None:
    """-2 takes the end of the longer side: the step is 2 / 8, and 1.99 is cut off at 7. With zero points 3.99 / 15."""
    linear = nn.Linear(32, 1, bias=False)
    with torch.no_grad():
        linear.weight.zero_()
        linear.weight[0, :4] = torch.tensor([-2.0, 1.99, 0.5, -0.13])
    layer = LinearGroups.from_float(linear, group=32)
    assert float(layer.scales()) == 0.25
    assert layer.integers()[0, :5].tolist() == [-8, 7, 2, -1, 0]
    linear.weight.data.neg_()
    layer = LinearGroups.from_float(linear, group=32)
    assert float(layer.scales()) == -0.25
    assert layer.integers()[0, :5].tolist() == [-8, 7, 2, -1, 0]
    layer = LinearGroups.from_float(linear, group=32, zero_point=True)
    assert (layer.integers()[0, :5].tolist(), int(layer.zeros())) == ([15, 0, 5, 7, 7], 7)  # 0.13 is half a step


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_lie_as_the_layout_says(bits: int) -> None:
    codes = torch.randint(2**bits, (21, 70), dtype=torch.uint8)
    packed = pack_codes(codes, bits)
    assert packed.shape == (2, 3, bits, 16)
    assert_exact(unpack_codes(packed, 21, 70), codes)
    one = torch.zeros(21, 70, dtype=torch.uint8)
    one[17, 32 + 13] = 2**bits - 1  # byte 1 of the words of row 1 of the second tile, slot 3 of 13 = 4 * 3 + 1
    words = {2: {0: 3 << 8 + 6}, 3: {0: 3 << 8 + 6, 2: 1 << 8 + 3}, 4: {1: 15 << 8 + 4}, 8: {3: 255 << 8}}[bits]
    found = {
        int(w): int(v) for *_, w, _ in pack_codes(one, bits).nonzero() for v in [pack_codes(one, bits)[1, 1, w, 1]]
    }
    assert found == words


@pytest.mark.parametrize("zeros", ["none", "whole", "real"])
def test_codes_of_others_come_in_exactly(zeros: str) -> None:
    low = -8 if zeros == "none" else 0
    codes, scale = torch.randint(low, low + 16, (5, 70)), torch.randn(5, 3).half()
    zero = {"none": None, "whole": torch.randint(0, 17, (5, 3)), "real": torch.rand(5, 3) * 16}[zeros]
    layer = LinearGroups.from_codes(codes, scale, zero, group=32, bias=torch.ones(5))
    spread = partial(torch.repeat_interleave, repeats=32, dim=1)
    points = 0.0 if zero is None else spread(zero.float())[:, :70]
    weight = (codes.float() - points) * spread(scale.float())[:, :70]
    assert_exact(layer.dequantize(), weight)
    assert_exact(layer.integers().long(), codes)
    assert_exact(layer.scales(), scale)
    if zero is not None:
        assert layer.zeros().dtype == (torch.uint8 if zeros == "whole" else torch.float32)
        assert torch.equal(layer.zeros().double(), zero.double())
    x = torch.randn(2, 3, 70)
    exact = x.double() @ weight.double().t() + 1
    assert_reduction(layer(x).detach(), exact, 71, 16 * scale.double().abs().max() * x.double().abs().max())


@pytest.mark.parametrize("activations", ["real", "int8"])
def test_groups_of_inputs_that_are_no_neighbours(tmp_path: Path, activations: Any) -> None:
    """An order of the inputs is that of a layer whose columns, and inputs, were sorted before."""
    codes, scale, zero = torch.randint(0, 16, (5, 70)), torch.randn(5, 3), torch.randint(0, 16, (5, 3))
    order = torch.randperm(70)
    layer = LinearGroups.from_codes(codes, scale, zero, group=32, order=order, activations=activations)
    sorted_first = LinearGroups.from_codes(codes[:, order], scale, zero, group=32, activations=activations)
    place = order.argsort() // 32
    assert_exact(layer.dequantize(), (codes.float() - zero.float()[:, place]) * scale[:, place])
    assert_exact(layer.integers().long(), codes)
    x = torch.randn(2, 3, 70, requires_grad=True)
    assert_exact(layer(x), sorted_first(x[..., order]))
    (grad,) = torch.autograd.grad(layer(x).sum(), x)
    (expected,) = torch.autograd.grad(sorted_first(x[..., order]).sum(), x)
    assert_exact(grad, expected)
    assert_exact(layer.half().order, order.int())
    save_quantized(nn.Sequential(layer), tmp_path / "file")
    again = load_quantized(nn.Sequential(nn.Linear(70, 5, bias=False, device="meta")), tmp_path / "file")
    assert_exact(again[0](x), layer(x))
    layer.order[0] = layer.order[1]
    save_quantized(nn.Sequential(layer), tmp_path / "file")
    with pytest.raises(ValueError, match=r"load_quantized: .*: LinearGroups: order must have each of 70 inputs once"):
        load_quantized(nn.Sequential(nn.Linear(70, 5, bias=False)), tmp_path / "file")


def test_bytes_and_products_are_counted() -> None:
    for options, bits in (
        ({}, 4.5),
        ({"group": 128, "scale_dtype": torch.float16, "zero_point": True}, 4.1875),
        ({"bits": 2, "group": None}, 2 + 32 / 1024),
        ({"bits": 3, "group": 32}, 4.0),
    ):
        layer = LinearGroups(1024, 1024, bias=False, **options)
        assert sum(b.nbytes for b in layer.buffers()) * 8 == bits * 1024**2
        (row,) = summary(nn.Sequential(layer), torch.randn(1, 1024)).rows
        assert (row.code_params, row.fmac, row.bytes) == (1024**2, 1024**2, bits * 1024**2 // 8)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_model_and_its_file(tmp_path: Path, options: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Linear(70, 33), nn.ReLU(), nn.Linear(33, 5, bias=False))
    small = quantize(model, partial(LinearGroups, **options))
    save_quantized(small, tmp_path / "file")
    with torch.device("meta"):
        fresh = nn.Sequential(nn.Linear(70, 33), nn.ReLU(), nn.Linear(33, 5, bias=False))
    again, x = load_quantized(fresh, tmp_path / "file"), torch.randn(3, 70)
    assert repr(again) == repr(small)
    assert_exact(again(x).detach(), small(x).detach())
    assert_exact(load_quantized(small, tmp_path / "file")(x).detach(), small(x).detach())


def test_a_file_of_zero_points_in_numbers(tmp_path: Path) -> None:
    layer = LinearGroups.from_codes(torch.randint(0, 4, (5, 70)), torch.randn(5, 3), torch.rand(5, 3), bits=2, group=32)
    save_quantized(nn.Sequential(layer), tmp_path / "file")
    again = load_quantized(nn.Sequential(nn.Linear(70, 5, bias=False)), tmp_path / "file")
    assert_exact(again[0].dequantize(), layer.dequantize())


@pytest.mark.parametrize("activations", ["real", "int8"])
def test_it_trains_what_is_around_it_and_casts_its_bias_alone(activations: Any) -> None:
    layer = LinearGroups(70, 16, activations=activations)
    x, grad = torch.randn(4, 70, requires_grad=True), torch.randn(4, 16)
    layer(x).backward(grad)
    weight = layer.dequantize()
    assert_reduction(x.grad, grad.double() @ weight.double(), 16, grad.double().abs().max() * weight.abs().max())
    assert_exact(layer.bias.grad, grad.sum(0))
    exact = (x.double() @ weight.double().t() + layer.bias.double()).detach()
    assert float((layer(x).detach() - exact).norm()) < (0.02 if activations == "int8" else 1e-6) * float(exact.norm())
    before = {name: value.clone() for name, value in layer.named_buffers()}
    layer.to(torch.bfloat16)
    assert layer.bias.dtype == torch.bfloat16
    for name, value in layer.named_buffers():
        assert_exact(value, before[name])
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert layer.to("meta")(x.to("meta")).shape == (4, 16)


def test_compiles_and_exports() -> None:
    layer, x = LinearGroups(70, 16, zero_point=True, activations="int8").requires_grad_(False), torch.randn(3, 70)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_exact(compiled(x), layer(x))
    batch = torch.export.Dim("batch")
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    assert_exact(program.module()(x[:2]), layer(x[:2]))


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: LinearGroups(64, 8, bits=1), ValueError, "bits must be 2, 3, 4 or 8; got 1"),
    (lambda: LinearGroups(64, 8, bits=9), ValueError, "bits must be 2, 3, 4 or 8; got 9"),
    (lambda: LinearGroups(64, 8, group=48), ValueError, "group must be 32, 64, 128, or None for whole rows; got 48"),
    (lambda: LinearGroups(0, 8), ValueError, "in_features must be at least 1; got 0"),
    (lambda: LinearGroups(64, 8, activations="int4"), ValueError, 'activations must be "real" or "int8"; got \'int4\''),
    (lambda: LinearGroups(64, 8, scale_dtype=torch.bfloat16), TypeError, "scale_dtype must be torch.float32 or"),
    (
        lambda: LinearGroups(70_000, 1, bits=8, group=None, activations="int8", device="meta"),
        ValueError,
        "take group=1",
    ),
    (lambda: LinearGroups.from_float(nn.Conv2d(1, 1, 1)), TypeError, "takes the place of an nn.Linear; got Conv2d"),
    (lambda: LinearGroups.from_float(_with(float("nan"))), ValueError, "must be finite; got 1 NaN and 0 inf"),
    (lambda: LinearGroups.from_float(_with(1e9), scale_dtype=torch.float16), ValueError, "scale must fit float16"),
    (
        lambda: LinearGroups(64, 8)(torch.ones(2, 65)),
        ValueError,
        r"x must be \[..., 64\], features last; got \[2, 65\]",
    ),
    (lambda: LinearGroups(64, 8)(torch.ones(2, 64).double()), TypeError, "linear_groups: x must be float32"),
    (
        lambda: _of(torch.full((2, 64), 8)),
        ValueError,
        "codes of 4 bits must lie in -8 ... 7 without zero points; got 8",
    ),
    (lambda: _of(torch.zeros(2, 64)), TypeError, "codes must be integers .*got torch.float32"),
    (lambda: _of(scale=torch.ones(2, 2)), ValueError, r"scale must be \[2, 1\], one per group; got \[2, 2\]"),
    (lambda: _of(scale=torch.ones(2, 1).double()), TypeError, "scale must be float32, float16 or bfloat16; got"),
    (lambda: _of(zero=torch.full((2, 1), float("inf"))), ValueError, "zero must be finite; got 0 NaN and 2 inf"),
    (lambda: _of(zero=torch.full((2, 1), 1 / 3, dtype=torch.float64)), TypeError, "zero must be numbers of float32"),
    (lambda: _of(order=torch.arange(63)), ValueError, r"order must be integers \[64\]; got torch.int64 \[63\]"),
    (lambda: _of(order=torch.ones(64)), ValueError, r"order must be integers \[64\]; got torch.float32"),
    (
        lambda: _of(order=torch.arange(1, 65)),
        ValueError,
        r"order must have each of 64 inputs once; got 1 ... 64",
    ),
    (lambda: _of(bias=torch.ones(3)), ValueError, r"bias must be numbers \[2\]; got torch.float32 \[3\]"),
]


def _with(value: float) -> nn.Linear:
    linear = nn.Linear(64, 8)
    linear.weight.data[0, 0] = value
    return linear


def _of(codes: Tensor | None = None, scale: Tensor | None = None, **rest: Any) -> LinearGroups:
    codes = torch.zeros(2, 64, dtype=torch.int8) if codes is None else codes
    return LinearGroups.from_codes(codes, torch.ones(2, 1) if scale is None else scale, **rest)


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=lambda value: "")
def test_bad_arguments(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_the_code_of_a_layer() -> None:
    assert LinearGroups(64, 8, bits=3).weight_code() == Integers(-4, 3, scale=PerInputGroup(64))
    assert LinearGroups(64, 8, zero_point=True, group=32).weight_code() == Integers(0, 15, scale=PerInputGroup(32))
