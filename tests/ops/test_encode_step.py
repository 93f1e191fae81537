# SPDX-License-Identifier: Apache-2.0
"""Packing images where they lie: the bits of the same images without gaps, whatever their strides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from _cases import values
from _tolerance import assert_exact
from bittern import ops
from bittern.ops.binary_block.layout import readable

SIZES = ((2, 5, 6, 70), (1, 1, 1, 3), (2, 30, 41, 65), (1, 9, 1, 64), (3, 4, 7, 1))
"""[batch, height, width, channels]"""


def channels_last(x: Tensor) -> Tensor:
    return x


def planar(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)


def part_of_planar(x: Tensor) -> Tensor:
    """Planes with other numbers between rows, channels and images."""
    batch, height, width, channels = x.shape
    whole = torch.full((batch, channels + 1, height + 2, width + 3), torch.nan)
    part = whole[:, 1:, 1:-1, 2:-1].permute(0, 2, 3, 1)
    return part.copy_(x)


def part_of_rows(x: Tensor) -> Tensor:
    """Channels last, with other numbers between rows."""
    whole = torch.full((x.shape[0], x.shape[1] + 1, x.shape[2] + 2, x.shape[3]), torch.nan)
    return whole[:, 1:, :-2].copy_(x)


LAYOUTS = (channels_last, planar, part_of_planar, part_of_rows)


def levels(x: Tensor, plane: int, planes: int) -> Tensor:
    """Bit `plane` of the level of each number, as +1 or -1."""
    codes = torch.round(x.nan_to_num(nan=0.0).clamp(0, 1) * (2**planes - 1)).to(torch.int32)
    return (codes >> plane & 1) * 2 - 1


@pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("border", [0, 2])
@pytest.mark.parametrize("planes", [1, 3])
def test_images_are_packed_where_they_lie(
    isa: ops.Isa, layout: Callable[[Tensor], Tensor], border: int, planes: int
) -> None:
    for size in SIZES:
        x = values(f"encode {size}", size, torch.float32)
        limits = x[0, 0, 0].nan_to_num(nan=0.0)  # ties, among them both zeros
        images, threshold = layout(x), limits if planes == 1 else None
        assert readable(images) is images or 1 in size, "no copy is made of what lies so"
        bits = ops.BitImages.empty(*size, border, planes)
        ops.run_steps(isa, ops.encode_step(images, threshold, bits))
        for plane in range(planes):
            signs = x if planes == 1 else levels(x, plane, planes)
            assert_exact(bits.view(plane), ops.pack_signs.reference(signs, threshold))
        untouched = bits.memory.clone()
        for plane in range(planes):
            ops.BitImages(untouched, *size, border, planes).view(plane).zero_()
        assert not untouched.any(), "the border stays 0"


@pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_signs_behind_an_affine_map(isa: ops.Isa, layout: Callable[[Tensor], Tensor]) -> None:
    """Of x * a + b, rounded once: with falling channels, zeros of a, and sums that only one rounding keeps apart."""
    generator = torch.Generator().manual_seed(0)
    for size in SIZES:
        x = values(f"encode {size}", size, torch.float32)
        affine = torch.randn(2, size[-1], generator=generator)
        affine[0, ::3] = 0.0
        affine[1, 1::4] = -affine[0, 1::4] * x[0, 0, 0, 1::4].nan_to_num(nan=0.0, posinf=1.0, neginf=1.0)
        mapped, images = ops.fused_multiply_add(x, *affine), layout(x)
        for threshold in (None, mapped[0, 0, 0].nan_to_num(nan=0.0)):
            bits = ops.BitImages.empty(*size, 1)
            ops.run_steps(isa, ops.encode_step(images, threshold, bits, affine))
            assert_exact(bits.view(), ops.pack_signs.reference(mapped, threshold))


@pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("mapped", [False, True])
def test_channels_behind_others(isa: ops.Isa, layout: Callable[[Tensor], Tensor], mapped: bool) -> None:
    """Images side by side give the bits of all their channels, wherever in a word some begin."""
    generator = torch.Generator().manual_seed(0)
    for widths in ((64, 64), (160, 64, 64, 1), (3, 61, 70), (65, 127, 128), (1, 2, 200)):
        parts = [torch.randn(2, 3, 5, width, generator=generator) for width in widths]
        affine, limits = torch.randn(3, sum(widths), generator=generator).split((2, 1))
        bits = ops.BitImages.empty(2, 3, 5, sum(widths), 1)
        bits.view().fill_(-1)  # of a call before
        first = 0
        for part in parts:
            last = first + part.shape[-1]
            rows = affine[:, first:last].contiguous() if mapped else None
            limit = limits[0, first:last].contiguous()
            images = layout(part)
            ops.run_steps(isa, ops.encode_step(images, limit, bits, rows, first=first))
            first = last
        whole = torch.cat(parts, -1)
        whole = ops.fused_multiply_add(whole, *affine) if mapped else whole
        assert_exact(bits.view(), ops.pack_signs.reference(whole, limits[0]))


def test_channels_beyond_their_words_are_refused() -> None:
    x, bits = torch.ones(1, 2, 2, 64), ops.BitImages.empty(1, 2, 2, 96)
    with pytest.raises(RuntimeError, match="its bits"):
        ops.run_steps(ops.chosen_isa(), ops.encode_step(x, None, bits, first=65))


def test_other_strides_are_copied_and_refused_by_the_step() -> None:
    every_second = torch.ones(2, 3, 4, 10)[..., ::2]
    assert readable(every_second).is_contiguous()
    with pytest.raises(RuntimeError, match="the strides of its input"):
        ops.run_steps(ops.chosen_isa(), ops.encode_step(every_second, None, ops.BitImages.empty(2, 3, 4, 5)))


def test_no_images_in_any_layout_are_nothing_to_read() -> None:
    """To torch, no samples are contiguous whatever their strides."""
    none = torch.ones(0, 3, 4, 10)[..., ::2]
    assert none.is_contiguous()
    ops.run_steps(ops.chosen_isa(), ops.encode_step(readable(none), None, ops.BitImages.empty(0, 3, 4, 5)))
