# SPDX-License-Identifier: Apache-2.0
"""What `multibit_quantize` asks of its arguments."""

from __future__ import annotations

import torch

from bittern.ops._check import check_dtype
from bittern.ops.multibit_quantize.arguments import MultibitQuantizeArguments

MOST_MULTIBIT_PLANES = 8
"""Of signs that stand for a row."""
REALS = (torch.float32, torch.bfloat16, torch.float16)


def check(a: MultibitQuantizeArguments) -> None:
    check_dtype("multibit_quantize", "x", a.x, REALS)
    if a.x.ndim == 0 or not 1 <= a.x.shape[-1] <= 2**24:
        raise ValueError(
            f"multibit_quantize: rows of x must hold 1 to 2^24 numbers; got shape {list(a.x.shape)}; pass [..., n]"
        )
    if not 1 <= a.planes <= MOST_MULTIBIT_PLANES:
        raise ValueError(f"multibit_quantize: planes must lie in 1 ... {MOST_MULTIBIT_PLANES}; got {a.planes}")
    if a.cycles < 0:
        raise ValueError(f"multibit_quantize: cycles must be at least 0; got {a.cycles}; 0 is the greedy start alone")
