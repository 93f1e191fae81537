# SPDX-License-Identifier: Apache-2.0
"""quantize_4bit(x, code, block_size=64, *, keep_nonzero=False, seed=None): two codes per byte.

As `quantize_blockwise` with a table of 16 entries. -> (packed uint8 [ceil(n / 2)], absmax float32
[ceil(n / block_size)]). The first element of a pair is in the high nibble; a surplus low nibble is 0.
Reference: QLoRA (arXiv:2305.14314).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device
from bittern.ops._isa import Isa
from bittern.ops._op import Op, lazily
from bittern.ops.quantize_blockwise.arguments import QuantizeArguments, quantize_4bit_arguments
from bittern.ops.quantize_blockwise.check import FLOATS, check_block_size, check_code
from bittern.ops.quantize_blockwise.cpu import quantize_flat
from bittern.ops.quantize_blockwise.reference import quantize_blockwise_reference


def _check(a: QuantizeArguments) -> None:
    check_dtype("quantize_4bit", "x", a.x, FLOATS)
    check_block_size("quantize_4bit", a.block_size)
    check_same_device("quantize_4bit", x=a.x, code=a.code)
    check_code("quantize_4bit", a.code, 16, 16, a.keep_nonzero)


def _reference(a: QuantizeArguments) -> tuple[Tensor, Tensor]:
    """The codes of `quantize_blockwise`, two per byte, the first in the high nibble."""
    codes, absmax = quantize_blockwise_reference(a)
    pairs = F.pad(codes.reshape(-1), (0, a.x.numel() % 2)).view(-1, 2)
    return pairs[:, 0] << 4 | pairs[:, 1], absmax


def _cpu(isa: Isa, a: QuantizeArguments) -> tuple[Tensor, Tensor]:
    packed = torch.empty(a.pairs, dtype=torch.uint8)
    return packed, quantize_flat(isa, a, packed, nibbles=True)


def _fake(a: QuantizeArguments) -> tuple[Tensor, Tensor]:
    return a.x.new_empty(a.pairs, dtype=torch.uint8), a.x.new_empty(a.blocks, dtype=torch.float32)


quantize_4bit: Op[tuple[Tensor, Tensor]] = Op(
    "quantize_4bit(Tensor x, Tensor code, int block_size=64, *, bool keep_nonzero=False, int? seed=None)"
    " -> (Tensor, Tensor)",
    record=quantize_4bit_arguments,
    check=_check,
    reference=_reference,
    fake=_fake,
    cpu=_cpu,
    cuda=lazily("bittern.ops.quantize_blockwise.cuda", "quantize_4bit_cuda"),
)
