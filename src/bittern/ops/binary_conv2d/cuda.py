# SPDX-License-Identifier: Apache-2.0
"""`binary_conv2d` on CUDA, by Triton: an implicit matrix product.

A program computes a tile of output pixels x output channels of one group. It loops over the taps of the kernel and
over the words of the group's channels; with c channels per group and T taps that count,

    acc = T * c - 2 * popcount(x xor w)

Padding of +-1 is a word of ones or zeros in the place of x, and its taps count. Padding of 0 has no bit: such a tap
counts neither in T nor in the popcount. The channels of a group may begin inside a word of x; then a word of the
group is put together from two neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import WORD_BITS
from bittern.ops._triton import TILE_MOST, fold_epilogue, launch, load_words, ones, popcount, tile_size, tl, triton
from bittern.ops.binary_conv2d.arguments import Conv2dArguments

_MOST_OUTPUT = 2**31 - TILE_MOST
"""Output pixels that int32 can number, so that finding a pixel's row and column divides 32-bit integers."""


@triton.jit
def _group_word(
    pixel: tl.tensor, mask: tl.tensor, first_bit: tl.tensor, bits: tl.tensor, ALIGNED: tl.constexpr, BITS: tl.constexpr
) -> tl.tensor:
    """The `bits` (<= 64) channels from `first_bit` on, of each pixel, as the low bits of a word."""
    word, shift = first_bit // BITS, first_bit % BITS
    low = load_words(pixel + word, mask)
    if ALIGNED:
        return low
    high = load_words(pixel + word + 1, tl.where(mask, shift + bits, 0) > BITS)
    # a shift by 64 has no meaning: where nothing spills, high is 0 and the shift is anything below 64
    joined = (low >> shift.to(tl.uint64)) | (high << ((BITS - shift) % BITS).to(tl.uint64))
    return joined & ones(bits)


@triton.jit
def _conv2d_kernel(
    x: tl.tensor,
    w: tl.tensor,
    epilogue: tl.tensor,
    out: tl.tensor,
    pixels: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    x_words: tl.tensor,
    out_h: tl.tensor,
    out_w: tl.tensor,
    out_channels: tl.tensor,
    group_out: tl.tensor,
    group_in: tl.tensor,
    kernel_h: tl.tensor,
    kernel_w: tl.tensor,
    stride_h: tl.tensor,
    stride_w: tl.tensor,
    pad_h: tl.tensor,
    pad_w: tl.tensor,
    dilation_h: tl.tensor,
    dilation_w: tl.tensor,
    PAD_VALUE: tl.constexpr,
    ALIGNED: tl.constexpr,
    BITS: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    tiles = tl.cdiv(group_out, CHANNELS)  # of one group
    all_tiles = tiles * (out_channels // group_out)
    pixel = (tl.program_id(0) // all_tiles) * PIXELS + tl.arange(0, PIXELS)
    tile = tl.program_id(0) % all_tiles
    group = tile // tiles
    member = (tile % tiles) * CHANNELS + tl.arange(0, CHANNELS)
    channel = group * group_out + member
    top = (pixel // out_w % out_h) * stride_h - pad_h
    left = (pixel % out_w) * stride_w - pad_w
    image = x + (pixel // (out_h * out_w)).to(tl.int64) * height * width * x_words
    w_words = tl.cdiv(group_in, BITS)
    weights = w + channel.to(tl.int64) * (kernel_h * kernel_w * w_words)

    differ = tl.zeros((PIXELS, CHANNELS), dtype=tl.int32)
    counted = tl.zeros((PIXELS,), dtype=tl.int32)
    for tap in range(kernel_h * kernel_w):
        row = top + (tap // kernel_w) * dilation_h
        column = left + (tap % kernel_w) * dilation_w
        inside = (pixel < pixels) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        source = image + (row.to(tl.int64) * width + column) * x_words
        counted += group_in if PAD_VALUE != 0 else tl.where(inside, group_in, 0)
        for i in range(w_words):
            bits = tl.minimum(group_in - i * BITS, BITS)
            here = _group_word(source, inside, group * group_in + i * BITS, bits, ALIGNED, BITS)
            if PAD_VALUE == 1:
                here = tl.where(inside, here, ones(bits))
            kernel_word = load_words(weights + tap * w_words + i, member < group_out)
            count = popcount(here[:, None] ^ kernel_word[None, :])
            differ += tl.where(inside[:, None], count, 0) if PAD_VALUE == 0 else count

    acc = counted[:, None] - 2 * differ
    target = out + pixel.to(tl.int64)[:, None] * out_channels + channel[None, :]
    mask = (pixel < pixels)[:, None] & (member < group_out)[None, :]
    if epilogue is None:
        tl.store(target, acc, mask=mask)
    else:
        tl.store(target, fold_epilogue(acc, epilogue, channel, out_channels), mask=mask)


def binary_conv2d_cuda(a: Conv2dArguments) -> Tensor:
    channels, groups, epilogue = a.channels, a.groups, a.epilogue
    x, w = a.x.contiguous(), a.w.contiguous()
    batch, height, width, x_words = x.shape
    out_channels, kernel_h, kernel_w = w.shape[:3]
    out_h, out_w = a.output_size
    dtype = torch.int32 if epilogue is None else torch.float32
    out = torch.empty((batch, out_h, out_w, out_channels), dtype=dtype, device=x.device)
    if not out.numel():
        return out
    group_in, group_out = channels // groups, out_channels // groups
    pixels = batch * out_h * out_w
    if pixels > _MOST_OUTPUT:
        raise ValueError(f"binary_conv2d: at most {_MOST_OUTPUT} output pixels on CUDA; got {pixels}; split the batch")
    tile_pixels, tile_channels = tile_size(pixels), tile_size(group_out)
    folded = None if epilogue is None else epilogue.contiguous()
    image = (pixels, height, width, x_words, out_h, out_w)
    kernel = (out_channels, group_out, group_in, kernel_h, kernel_w, *a.stride, *a.padding, *a.dilation)
    aligned = groups == 1 or group_in % WORD_BITS == 0
    launch(
        _conv2d_kernel,
        triton.cdiv(pixels, tile_pixels) * groups * triton.cdiv(group_out, tile_channels),
        out,
        *(x, w, folded, out, *image, *kernel),
        PAD_VALUE=a.pad_value,
        ALIGNED=aligned,
        BITS=WORD_BITS,
        PIXELS=tile_pixels,
        CHANNELS=tile_channels,
    )
    return out
