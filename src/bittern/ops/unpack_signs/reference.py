# SPDX-License-Identifier: Apache-2.0
"""The meaning of `unpack_signs` in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import WORD_BITS


def unpack_signs_reference(words: Tensor, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """+1 where bit i % 64 of word i // 64 is 1, else -1, for i < length."""
    places = torch.arange(WORD_BITS, device=words.device, dtype=torch.int64)
    bits = (words.unsqueeze(-1) >> places) & 1
    return (2 * bits.flatten(-2)[..., :length] - 1).to(dtype)
