# SPDX-License-Identifier: Apache-2.0
"""pack_signs(x, threshold=None): one bit per element of the last dimension.

x: [..., n], float32, float64, float16, bfloat16 or int32, n >= 1. threshold: [n] or None (0).
-> int64 words [..., ceil(n / 64)]; bit (i % 64) of word i // 64 is 1 (meaning +1) where x[i] >= threshold[i],
else 0 (meaning -1). Surplus bits are 0. NaN gives 0.
threshold is float64 for float64 x, int32 for int32 x, else float32; float16 and bfloat16 are widened first.
Rows of an x that is torch's images seen with channels last ([batch, channels, ...] in memory) are read where they lie.
Errors: TypeError for another dtype, ValueError for n = 0 or a threshold of the wrong length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype, check_same_device, words_for
from bittern.ops._op import Op, lazily
from bittern.ops.pack_signs.cpu import PreparedPack, pack_signs_cpu
from bittern.ops.pack_signs.reference import pack_signs_reference

__all__ = ["PreparedPack", "pack_signs", "threshold_dtype"]


def threshold_dtype(x_dtype: torch.dtype) -> torch.dtype:
    """Element type that a threshold must have beside an x of `x_dtype`."""
    return x_dtype if x_dtype in (torch.float64, torch.int32) else torch.float32


def _check(x: Tensor, threshold: Tensor | None = None) -> None:
    check_dtype("pack_signs", "x", x, (*FLOATS, torch.int32))
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"pack_signs: x needs at least one element in its last dimension; got {list(x.shape)}")
    check_same_device("pack_signs", x=x, threshold=threshold)
    if threshold is not None:
        check_dtype("pack_signs", "threshold", threshold, (threshold_dtype(x.dtype),))
        if tuple(threshold.shape) != (x.shape[-1],):
            raise ValueError(
                f"pack_signs: threshold must be [{x.shape[-1]}], one per column; got {list(threshold.shape)}"
            )


def _fake(x: Tensor, threshold: Tensor | None = None) -> Tensor:
    return x.new_empty((*x.shape[:-1], words_for(x.shape[-1])), dtype=torch.int64)


pack_signs: Op[Tensor] = Op(
    "pack_signs(Tensor x, Tensor? threshold=None) -> Tensor",
    check=_check,
    reference=pack_signs_reference,
    fake=_fake,
    cpu=pack_signs_cpu,
    cuda=lazily("bittern.ops.pack_signs.cuda", "pack_signs_cuda"),
)
