# SPDX-License-Identifier: Apache-2.0
"""Argument checks that several ops share: each message says subject, rule, what came, what to do."""

from __future__ import annotations

import torch
from torch import Tensor

WORD_BITS = 64
"""Bits per packed word (int64)."""

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
DTYPE_CODES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.int32: 4,
}
"""Codes that `bittern._native` takes for element types."""


def words_for(bits: int) -> int:
    """Number of int64 words that hold `bits` bits."""
    return -(-bits // WORD_BITS)


def check_dtype(op: str, name: str, x: Tensor, allowed: tuple[torch.dtype, ...]) -> None:
    if x.dtype not in allowed:
        names = ", ".join(str(d).removeprefix("torch.") for d in allowed)
        raise TypeError(f"{op}: {name} must be {names}; got {str(x.dtype).removeprefix('torch.')}; cast it first")


def check_words(op: str, name: str, words: Tensor, bits: int) -> None:
    """`words` must be int64 with ceil(bits / 64) words in its last dimension."""
    check_dtype(op, name, words, (torch.int64,))
    if bits < 1:
        raise ValueError(f"{op}: {name} must hold at least 1 bit; got {bits}")
    if words.ndim == 0 or words.shape[-1] != words_for(bits):
        raise ValueError(
            f"{op}: {name} must have {words_for(bits)} words in its last dimension for {bits} bits; "
            f"got shape {list(words.shape)}; make it with pack_signs"
        )


def check_epilogue(op: str, epilogue: Tensor | None, out_channels: int) -> None:
    if epilogue is None:
        return
    check_dtype(op, "epilogue", epilogue, (torch.float32,))
    if tuple(epilogue.shape) != (4, out_channels):
        raise ValueError(
            f"{op}: epilogue must be [4, {out_channels}] (rows offset, scale, alpha, beta); got {list(epilogue.shape)}"
        )


def check_same_device(op: str, **tensors: Tensor | None) -> None:
    present = {name: t.device for name, t in tensors.items() if t is not None}
    if len(set(present.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in present.items())
        raise ValueError(f"{op}: all tensors must be on one device; got {listed}")
