# SPDX-License-Identifier: Apache-2.0
"""unpack_signs(words, length, dtype): the inverse of `pack_signs`.

words: int64 [..., ceil(length / 64)] -> [..., length] in {-1, +1} of `dtype` (float32, float64, float16, bfloat16).
Errors: TypeError for another dtype, ValueError when words and length do not fit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import FLOATS, check_words
from bittern.ops._op import Op, lazily
from bittern.ops.unpack_signs.cpu import unpack_signs_cpu
from bittern.ops.unpack_signs.reference import unpack_signs_reference


def _check(words: Tensor, length: int, dtype: torch.dtype = torch.float32) -> None:
    check_words("unpack_signs", "words", words, length)
    if dtype not in FLOATS:
        raise TypeError(f"unpack_signs: dtype must be a floating-point type; got {dtype}")


def _fake(words: Tensor, length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return words.new_empty((*words.shape[:-1], length), dtype=dtype)


unpack_signs: Op[Tensor] = Op(
    "unpack_signs(Tensor words, int length, ScalarType dtype=6) -> Tensor",  # 6 is torch.float32
    check=_check,
    reference=unpack_signs_reference,
    fake=_fake,
    cpu=unpack_signs_cpu,
    cuda=lazily("bittern.ops.unpack_signs.cuda", "unpack_signs_cuda"),
)
