"""Weight bits as they lie in a file: one bit a weight, no gaps, least significant bit first.

A file holds the bits of [out, *kernel, channels / groups] in row-major order with channels last, padded with zeros
to a whole byte. At load they are expanded to int64 words, 64 channels a word, which is what the ops read.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bittern import ops


def to_stream(values: Tensor) -> Tensor:
    """+-1 values [out, channels, *kernel] -> uint8 [ceil(numel / 8)], the channels last and fastest."""
    last = values.movedim(1, -1).contiguous().flatten()
    return torch.from_numpy(np.packbits((last >= 0).numpy(), bitorder="little"))


def stream_bytes(bits: int) -> int:
    """Length in bytes of a stream of `bits` bits."""
    return -(-bits // 8)


def to_words(stream: Tensor, out_channels: int, taps: int, channels: int) -> Tensor:
    """A stream -> int64 words [out, taps, ceil(channels / 64)], as `ops.pack_signs` would make them."""
    bits = np.unpackbits(stream.numpy(), count=out_channels * taps * channels, bitorder="little")
    values = torch.from_numpy(bits.astype(np.int32)).reshape(out_channels, taps, channels)
    return ops.pack_signs(values - 1)
