# SPDX-License-Identifier: Apache-2.0
"""The meaning of `pack_signs` in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops._check import WORD_BITS, words_for


def pack_signs_reference(x: Tensor, threshold: Tensor | None = None) -> Tensor:
    """Bit i % 64 of word i // 64 is 1 where x[..., i] >= threshold[i] (0 if None); surplus bits are 0."""
    if threshold is not None and x.dtype != threshold.dtype:
        x = x.to(threshold.dtype)
    bits = x >= (0 if threshold is None else threshold)
    n = x.shape[-1]
    bits = F.pad(bits, (0, words_for(n) * WORD_BITS - n))
    bits = bits.reshape(*x.shape[:-1], words_for(n), WORD_BITS)
    places = torch.arange(WORD_BITS, device=x.device, dtype=torch.int64)
    # the bits of one word are disjoint, so a sum is an "or"; bit 63 is the sign bit of int64
    return (bits.to(torch.int64) << places).sum(-1)
