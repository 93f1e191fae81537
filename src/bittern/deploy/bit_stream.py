# SPDX-License-Identifier: Apache-2.0
"""Weight bits as they lie in a file: one bit a weight, no gaps, least significant bit first.

A file holds the bits of [out, *kernel, channels / groups] in row-major order with channels last, padded with zeros
to a whole byte. At load they are expanded to int64 words, 64 channels a word, which is what the ops read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bittern.codes import BLOCK, Code
from bittern.ops._check import WORD_BITS, words_for

BYTE_BITS = 8

PIECE = 2**16
"""Bytes of a plane of weights that are looked at at a time."""


def to_stream(positive: Tensor) -> Tensor:
    """bool [out, channels, *kernel], whether a sign is +1 -> uint8 [ceil(numel / 8)], channels last and fastest."""
    last = positive.movedim(1, -1).contiguous().flatten()
    return torch.from_numpy(np.packbits(last.numpy(), bitorder="little"))


def to_streams(code: Code, numbers: Tensor) -> Tensor:
    """Numbers of a code [out, channels, *kernel] -> uint8 [planes, ceil(numel / 8)], the stream of each plane.

    They are taken in blocks of whole bytes, so that no plane is ever held as a whole.
    """
    each = numbers[0].numel()
    rows = BYTE_BITS * max(1, BLOCK // (BYTE_BITS * each))
    streams = torch.empty(code.bits, stream_bytes(numbers.numel()), dtype=torch.uint8)
    for start in range(0, len(numbers), rows):
        first = start * each // BYTE_BITS
        for stream, plane in zip(streams, code.to_planes(numbers[start : start + rows]), strict=True):
            bits = to_stream(plane)
            stream[first : first + len(bits)] = bits
    return streams


def from_streams(streams: Tensor, count: int) -> Tensor:
    """Streams uint8 [planes, bytes] of so many bits each -> bool [planes, count]."""
    bits = np.unpackbits(streams.cpu().numpy(), axis=1, count=count, bitorder="little")
    return torch.from_numpy(bits.view(bool))


def spelled(code: Code, streams: Tensor, count: int) -> bool:
    """Whether streams of so many numbers spell them as their code does; looked at in pieces, before a budget is."""
    for first in range(0, streams.shape[1], PIECE):
        piece = streams[:, first : first + PIECE]
        if not code.spells(from_streams(piece, min(count - BYTE_BITS * first, BYTE_BITS * piece.shape[1]))):
            return False
    return True


def numbers_of(code: Code, streams: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """What `to_streams` was given, of this shape [out, channels, *kernel], on the CPU.

    dtype: one that holds the code.
    """
    out, channels, *kernel = shape
    numbers = torch.full((out * channels * math.prod(kernel),), code.low, dtype=dtype, device="cpu")
    for stream, factor in zip(streams, code.plane_factors, strict=True):
        numbers.add_(from_streams(stream[None], len(numbers))[0], alpha=code.step * factor)
    # not by contiguous(), which keeps the strides of a kernel of one tap, from which torch guesses another layout
    return torch.empty(tuple(shape), dtype=dtype, device="cpu").copy_(
        numbers.view(out, *kernel, channels).movedim(-1, 1)
    )


def stream_bytes(bits: int) -> int:
    """Length in bytes of a stream of `bits` bits."""
    return -(-bits // BYTE_BITS)


def to_words(stream: Tensor, out_channels: int, taps: int, channels: int) -> Tensor:
    """A stream -> int64 words [out, taps, ceil(channels / 64)], as `ops.pack_signs` would make them."""
    rows, words = out_channels * taps, words_for(channels)
    if channels % BYTE_BITS == 0:
        own = stream.numpy().reshape(rows, channels // BYTE_BITS)
    else:
        bits = np.unpackbits(stream.numpy(), count=rows * channels, bitorder="little")
        own = np.packbits(bits.reshape(rows, channels), axis=1, bitorder="little")
    padded = np.zeros((rows, words * WORD_BITS // BYTE_BITS), np.uint8)
    padded[:, : own.shape[1]] = own
    return torch.from_numpy(padded.view("<i8").reshape(out_channels, taps, words))
