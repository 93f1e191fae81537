# SPDX-License-Identifier: Apache-2.0
"""What `multibit_matvec` asks of its operands."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device, check_words
from bittern.ops.multibit_matvec.arguments import MultibitMatvecArguments

OP = "multibit_matvec"
MOST_PLANES = 8


def check_planes(name: str, words: Tensor, scale: Tensor, bits: int) -> None:
    """Words [planes, *rows, words of `bits` bits] and a scale [*rows, planes], as `multibit_quantize` gives them."""
    check_words(OP, name, words, bits)
    check_dtype(OP, f"{name}_scale", scale, (torch.float32,))
    if words.ndim < 2 or not 1 <= len(words) <= MOST_PLANES:
        raise ValueError(
            f"{OP}: {name} must be [planes, ..., words] with 1 to {MOST_PLANES} planes; got {list(words.shape)}; "
            "make it with multibit_quantize"
        )
    wanted = [*words.shape[1:-1], len(words)]
    if list(scale.shape) != wanted:
        raise ValueError(f"{OP}: {name}_scale must be {wanted}, one of each plane; got {list(scale.shape)}")


def check_weight(w: Tensor, w_scale: Tensor, in_features: int, bias: Tensor | None) -> None:
    """The weight and the bias alone."""
    if not 1 <= in_features <= 2**24:
        raise ValueError(f"{OP}: in_features must lie in [1, 2^24], where float32 is exact; got {in_features}")
    check_planes("w", w, w_scale, in_features)
    if w.ndim != 3:
        raise ValueError(f"{OP}: w must be [planes, rows, words]; got {list(w.shape)}")
    if bias is not None:
        check_dtype(OP, "bias", bias, (torch.float32,))
        if tuple(bias.shape) != (w.shape[1],):
            raise ValueError(f"{OP}: bias must be [{w.shape[1]}]; got {list(bias.shape)}")


def check(a: MultibitMatvecArguments) -> None:
    check_weight(a.w, a.w_scale, a.in_features, a.bias)
    check_planes("x", a.x, a.x_scale, a.in_features)
    check_same_device(OP, x=a.x, x_scale=a.x_scale, w=a.w, w_scale=a.w_scale, bias=a.bias)
