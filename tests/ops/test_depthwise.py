# SPDX-License-Identifier: Apache-2.0
"""Depthwise blocks that give signs alone: limits of counts, found through the tail, say what its numbers say."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from _conv_cases import WINDOWS, Conv, depthwise, generator
from bittern import ops
from bittern.ops import Activation

ISAS = pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
ORDINARY = {"kernel": (3, 3), "padding": (1, 1), "stride": (1, 1), "dilation": (1, 1)}


def signs(
    isa: ops.Isa, conv: Conv, epilogue: Tensor, threshold: Tensor, activation: Activation
) -> tuple[Tensor, Tensor]:
    """(bits alone from the prepared block, bits of the reference)."""
    x, w, *geometry, _ = conv.make()
    block = ops.PreparedBlock(w, *geometry, epilogue, activation, threshold=threshold, isa=isa)
    bits = ops.BitImages.empty(conv.batch, *block.output_size(*conv.size), conv.out)
    ops.run_steps(isa, block.step(ops.BitImages.of(x, conv.channels), bits=bits))
    _, expected = ops.binary_block.reference(x, w, *geometry, epilogue, int(activation), threshold=threshold)
    return bits.view(), expected


def drawn(label: str, out: int) -> tuple[Tensor, Tensor]:
    """(epilogue, threshold), both directions, with constant channels and ties."""
    draw = generator(label)
    rows, threshold = torch.randn(4, out, generator=draw), torch.randn(out, generator=draw)
    rows[:, ::5] = torch.tensor([0.0, 1.0, 1.0, 0.0])[:, None]  # sums themselves, and whole thresholds: ties
    rows[2, 5::10] = -1.0
    threshold[::5] = torch.randint(-10, 11, threshold[::5].shape, generator=draw).float()
    rows[2, 1::7], threshold[3::7] = 0.0, 1e6
    return rows, threshold


@ISAS
@pytest.mark.parametrize("pad_value", [0, 1, -1])
@pytest.mark.parametrize("channels", [2, 63, 64, 65, 144, 257])
def test_signs_of_every_size(isa: ops.Isa, channels: int, pad_value: int) -> None:
    rows, threshold = drawn(f"{channels}", channels)
    for window in (ORDINARY, {"kernel": (3, 3), "padding": (2, 1), "stride": (2, 2), "dilation": (1, 2)}):
        conv = depthwise(channels, size=(7, 9), **window, pad_value=pad_value)
        found, expected = signs(isa, conv, rows, threshold, Activation.NONE)
        assert torch.equal(found, expected)


@ISAS
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_signs_under_every_window(isa: ops.Isa, window: tuple[tuple[int, int], ...]) -> None:
    kernel, padding, stride, dilation = window
    conv = depthwise(100, size=(9, 8), kernel=kernel, padding=padding, stride=stride, dilation=dilation, batch=3)
    found, expected = signs(isa, conv, *drawn(str(window), 100), Activation.NONE)
    assert torch.equal(found, expected)


@ISAS
def test_an_activation_that_is_not_monotone_takes_the_way_through_numbers(isa: ops.Isa) -> None:
    conv = depthwise(65, size=(6, 5))
    x, w, *geometry, _ = conv.make()
    rows, threshold = drawn("slope", 65)
    slope = torch.full((1, 65), -0.5)
    block = ops.PreparedBlock(w, *geometry, rows, Activation.PRELU, slope, threshold=threshold, isa=isa)
    bits = ops.BitImages.empty(conv.batch, 6, 5, 65)
    ops.run_steps(isa, block.step(ops.BitImages.of(x, 65), bits=bits))
    _, expected = ops.binary_block.reference(x, w, *geometry, rows, int(Activation.PRELU), slope, threshold)
    assert torch.equal(bits.view(), expected)


@ISAS
@pytest.mark.parametrize("row", range(5), ids=["offset", "scale", "alpha", "beta", "threshold"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, -3e38], ids=str)
def test_numbers_that_are_not_finite(isa: ops.Isa, row: int, value: float) -> None:
    """Their tails need not be monotone: an infinite scale gives NaN at a sum of zero alone."""
    rows, threshold = drawn("not finite", 70)
    (rows[row] if row < 4 else threshold)[7::9] = value
    found, expected = signs(isa, depthwise(70, size=(6, 5)), rows, threshold, Activation.NONE)
    assert torch.equal(found, expected)


@ISAS
def test_several_threads_give_the_same(isa: ops.Isa) -> None:
    rows, threshold = drawn("threads", 144)
    conv = depthwise(144, size=(40, 41), batch=2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found, expected = signs(isa, conv, rows, threshold, Activation.NONE)
        x, w, *rest = conv.make()
        sums = ops.PreparedConv2d(w, *rest[:-1], rows, isa)(x)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, expected)
    assert torch.equal(sums, ops.binary_conv2d.reference(x, w, *rest[:-1], rows))
