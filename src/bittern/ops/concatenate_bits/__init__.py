# SPDX-License-Identifier: Apache-2.0
"""concatenate_bits(parts, channels): packed signs side by side along their channels.

parts: int64 [..., ceil(channels[i] / 64)], the same sizes but for the last; channels: how many bits each has.
-> int64 [..., ceil(sum(channels) / 64)]: the bits of the parts in order, without gaps, the rest 0.
Errors: TypeError / ValueError for wrong dtypes or shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_same_device, check_words, words_for
from bittern.ops._op import Op
from bittern.ops.concatenate_bits.cpu import concatenate_bits_cpu, concatenate_bits_steps
from bittern.ops.concatenate_bits.reference import concatenate_bits_reference

__all__ = ["concatenate_bits", "concatenate_bits_steps"]


def _check(parts: list[Tensor], channels: list[int]) -> None:
    op = "concatenate_bits"
    if not parts or len(parts) != len(channels):
        raise ValueError(f"{op}: channels must name one number for each of {len(parts)} parts; got {list(channels)}")
    for index, (part, bits) in enumerate(zip(parts, channels, strict=True)):
        check_words(op, f"parts[{index}]", part, bits)
        if part.shape[:-1] != parts[0].shape[:-1]:
            raise ValueError(
                f"{op}: all parts must have the sizes {list(parts[0].shape[:-1])} in front of their words; "
                f"parts[{index}] has {list(part.shape[:-1])}"
            )
    check_same_device(op, **{f"parts[{index}]": part for index, part in enumerate(parts)})


def _fake(parts: list[Tensor], channels: list[int]) -> Tensor:
    return torch.empty((*parts[0].shape[:-1], words_for(sum(channels))), dtype=torch.int64, device=parts[0].device)


concatenate_bits: Op[Tensor] = Op(
    "concatenate_bits(Tensor[] parts, int[] channels) -> Tensor",
    check=_check,
    reference=concatenate_bits_reference,
    fake=_fake,
    cpu=concatenate_bits_cpu,
    cuda=concatenate_bits_reference,  # shifts of whole words: torch's own kernels are as good
)
