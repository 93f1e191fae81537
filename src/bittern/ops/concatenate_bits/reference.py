# SPDX-License-Identifier: Apache-2.0
"""The meaning of `concatenate_bits` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import WORD_BITS, words_for


def concatenate_bits_reference(parts: list[Tensor], channels: list[int]) -> Tensor:
    """Each part's words shifted to its place, OR-ed together."""
    total = words_for(sum(channels))
    out = torch.zeros((*parts[0].shape[:-1], total), dtype=torch.int64, device=parts[0].device)
    offset = 0
    for part, bits in zip(parts, channels, strict=True):
        first, shift = divmod(offset, WORD_BITS)
        words = part.shape[-1]
        out[..., first : first + words] |= part << shift
        if shift:
            carried = (part >> (WORD_BITS - shift)) & ((1 << shift) - 1)
            room = min(words, total - first - 1)  # what is left behind the last word is 0
            out[..., first + 1 : first + 1 + room] |= carried[..., :room]
        offset += bits
    return out
