# SPDX-License-Identifier: Apache-2.0
"""`multibit_quantize` on the CPU, by native code."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import words_for
from bittern.ops._isa import Isa, threads
from bittern.ops.multibit_quantize.arguments import MultibitQuantizeArguments


def multibit_quantize_cpu(isa: Isa, a: MultibitQuantizeArguments) -> tuple[Tensor, Tensor]:
    *rows, n = a.x.shape
    x = a.x.float().contiguous()
    words = torch.empty((a.planes, *rows, words_for(n)), dtype=torch.int64)
    scale = torch.empty((*rows, a.planes), dtype=torch.float32)
    _native.multibit_quantize(
        isa,
        threads(),
        x.data_ptr(),
        scale.numel() // a.planes,
        n,
        a.planes,
        a.cycles,
        a.refined,
        words.data_ptr(),
        scale.data_ptr(),
    )
    return words, scale
