# SPDX-License-Identifier: Apache-2.0
"""Steps over real images: every instruction set gives the bits of the reference."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from _conv_cases import generator
from _tolerance import assert_exact
from bittern import ops
from bittern.nn.binarize import spread
from bittern.nn.geometry import Geometry
from bittern.ops.map_images.reference import map_images_reference
from bittern.ops.pool_images.reference import mean_reference, pool_images_reference
from bittern.ops.real_conv.reference import real_conv_reference
from bittern.quantizer import LayerShape

ISAS = pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
ORDERS = [ops.SumOrder(first, chain) for first, chain in itertools.product((False, True), (1, 7, 1000))]
ORDERS += [ops.SumOrder(True, 1000, 3), ops.SumOrder(False, 7, 20)]
POOLS = [
    ops.PoolRule(average, kernel, stride, padding, count)
    for average, count in ((False, True), (True, True), (True, False))
    for kernel, stride, padding in (((2, 2), (2, 2), (0, 0)), ((3, 2), (1, 3), (1, 1)), ((1, 3), (2, 1), (0, 1)))
]


def numbers(label: str, *shape: int) -> Tensor:
    """With a NaN and an infinity where there is room for them."""
    x = torch.randn(shape, generator=generator(label))
    if x.numel() > 100:
        x.view(-1)[7], x.view(-1)[60] = torch.nan, torch.inf
    return x


def assert_same(mine: Tensor, reference: Tensor) -> None:
    """Bit for bit, with NaN in the same places."""
    assert torch.equal(mine.isnan(), reference.isnan())
    assert_exact(mine.masked_fill(mine.isnan(), 0), reference.masked_fill(reference.isnan(), 0))


def positions(n: int, kernel: int, stride: int, padding: int) -> int:
    return (n + 2 * padding - kernel) // stride + 1


def run_on(isa: ops.Isa, record: np.ndarray, part: str, x: Tensor) -> None:
    record[part]["x"], record["sizes"]["input"] = x.data_ptr(), ops.bytes_of(x)
    ops.run_steps(isa, record)


@ISAS
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize(("out", "groups"), [(1, 1), (17, 1), (40, 1), (24, 3), (40, 2)])
@pytest.mark.parametrize("rest", [False, True], ids=["sum", "affine-limits"])
def test_real_conv(isa: ops.Isa, order: ops.SumOrder, out: int, groups: int, rest: bool) -> None:
    x, w = numbers("x", 2, 7, 6, 5 * groups), torch.randn(out, 5, 3, 2, generator=generator("w"))
    affine = torch.randn(2, out, generator=generator("affine")) if rest else None
    geometry = ((2, 1), (1, 1), (1, 2))
    fixed = (w, *geometry, order, affine, (-0.5, 1.5) if rest else None, groups)
    expected = real_conv_reference(x, *fixed)
    y = torch.full_like(expected, -7.0)
    conv = ops.PreparedRealConv(*fixed)  # a record keeps nothing alive
    ops.run_steps(isa, conv.step(x, y))
    assert_same(y, expected)


@ISAS
@pytest.mark.parametrize("rule", POOLS, ids=str)
@pytest.mark.parametrize("channels", [1, 9, 33])
@pytest.mark.parametrize("mapped", [False, True], ids=["", "affine"])
def test_pool_images(isa: ops.Isa, rule: ops.PoolRule, channels: int, mapped: bool) -> None:
    x = numbers("pool", 2, 7, 8, channels)
    affine = torch.randn(2, channels, generator=generator("affine")) if mapped else None
    sizes = zip((7, 8), rule.kernel, rule.stride, rule.padding, strict=True)
    height, width = (positions(*size) for size in sizes)
    expected = pool_images_reference(x, rule, (height, width), affine)
    y = torch.full_like(expected, -7.0)
    run_on(isa, ops.pool_step(rule, x.shape, y, affine), "pool", x)
    assert_same(y, expected)


@ISAS
@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("size", [(1, 1), (7, 7), (14, 9), (30, 40)], ids=str)
@pytest.mark.parametrize("channels", [1, 19])
def test_mean_of_whole_images(isa: ops.Isa, lanes: int, size: tuple[int, int], channels: int) -> None:
    x = torch.randn(2, *size, channels, generator=generator("mean"))
    y = torch.full((2, 1, 1, channels), -7.0)
    run_on(isa, ops.mean_step(x.shape, y, lanes), "pool", x)
    assert_exact(y.view(2, channels), mean_reference(x, lanes))


def map_steps(channels: int) -> list[ops.MapStep]:
    """Every operation, and some twice."""
    own = generator("rows")
    counts = {0: 2, 2: 2, 3: 1, 4: 3, 5: 4, 8: 2}
    order = (0, 7, 5, 11, 0, 3, 9, 8, 4, 10, 2, 6, 1, 8)
    rows = [torch.randn(counts[n], channels, generator=own) if n in counts else None for n in order]
    steps = [ops.MapStep(ops.MapOperation(n), r) for n, r in zip(order, rows, strict=True)]
    clamp = steps[10].rows
    assert clamp is not None
    steps[10] = steps[10]._replace(rows=torch.stack((-clamp[0].abs(), clamp[1].abs())))
    return steps


@ISAS
@pytest.mark.parametrize("channels", [1, 19, 257])
@pytest.mark.parametrize("one", [False, True], ids=["images", "one number a channel"])
def test_map_images(isa: ops.Isa, channels: int, one: bool) -> None:
    x, residual = numbers("map", 2, 5, 7, channels), numbers("residual", 2, 5, 7, channels)
    factor = torch.randn((2, 1, 1, channels) if one else x.shape, generator=generator("factor"))
    steps = map_steps(channels)
    for count in (*range(len(steps) + 1),) if channels == 19 else (len(steps),):
        prepared = ops.PreparedMap(steps[:count], channels)
        y = x.clone()  # in place
        record = prepared.step(x.shape, y, 35, 1 if one else 35)
        for name, operand in (("residual", residual), ("factor", factor)):
            record["map"][name], record["sizes"][name] = operand.data_ptr(), ops.bytes_of(operand)
        run_on(isa, record, "map", y)
        assert_same(y, map_images_reference(x, steps[:count], residual, factor))


WINDOWS = [
    ops.Window((1, 1), (1, 1), (0, 0), (1, 1)),
    ops.Window((3, 3), (1, 1), (1, 1), (1, 1)),
    ops.Window((3, 2), (2, 3), (1, 0), (1, 1)),
    ops.Window((2, 3), (1, 2), (4, 5), (3, 2)),  # windows in the padding alone
]


@ISAS
@pytest.mark.parametrize("window", [*WINDOWS, None], ids=str)
@pytest.mark.parametrize("channels", [1, 19, 64])
@pytest.mark.parametrize("lies", ["last", "first", "strided"])
def test_input_scale(isa: ops.Isa, window: ops.Window | None, channels: int, lies: str) -> None:
    wide = numbers("scale", 2, 8, 18, channels)
    x = wide[:, 1:, ::2] if lies == "strided" else wide[:, 1:, :9].contiguous()
    x = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1) if lies == "first" else x
    mean = ops.mean_magnitude.reference(x.permute(0, 3, 1, 2))
    if window is None:
        expected = ops.mean_magnitude.reference(mean.flatten(1)).expand(2, 20).view(2, 4, 5)
    else:
        expected = spread(mean, LayerShape((1, 1, *window.kernel)), Geometry(*window[1:]))[:, 0]
    means, out = torch.full((2, 7, 9), -7.0), torch.full(expected.shape, -7.0)
    ops.run_steps(isa, ops.input_scale_step(x, window, means, out))
    assert_same(out, expected)


def test_one_tap_needs_no_working_memory() -> None:
    x = numbers("scale", 2, 7, 9, 19)
    out = torch.full((2, 7, 9), -7.0)
    ops.run_steps(ops.chosen_isa(), ops.input_scale_step(x, WINDOWS[0], out, out))
    assert_same(out, ops.mean_magnitude.reference(x.permute(0, 3, 1, 2))[:, 0])
    with pytest.raises(RuntimeError, match="its working memory"):
        ops.run_steps(ops.chosen_isa(), ops.input_scale_step(x, None, out, out))


def test_a_mean_depends_on_its_order() -> None:
    """So that the tests above would see a wrong one."""
    x = torch.randn(2, 30, 40, 19, generator=generator("mean"))
    assert not torch.equal(mean_reference(x, 4), mean_reference(x, 16))
