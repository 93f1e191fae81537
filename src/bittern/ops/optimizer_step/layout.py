# SPDX-License-Identifier: Apache-2.0
"""Where things lie in memory: the native record of a tensor, the codes and the scales of an optimizer state."""

from __future__ import annotations

from enum import Enum
from functools import cache

import torch
from torch import Tensor

from bittern import _native
from bittern.ops import codebooks
from bittern.ops.optimizer_step.rules import State

WORD = {name: offset // 8 for name, offset, _ in _native.step_tensor_fields()}
"""Where each field of a `StepTensor` (kernel.h) begins, in words of 64 bits."""

WORDS = sum(size for _, _, size in _native.step_tensor_fields()) // 8
"""Length of a `StepTensor`."""

ABSMAX_LEAST = torch.finfo(torch.float32).tiny
"""A block whose largest magnitude is below the smallest normal float32 is stored as zeros: 1 / absmax overflows."""

STATE_BITS = (32, 8, 4)
DRAW = 0x9E3779B9 << 32
"""From the seed of a draw of random bits to that of the next, whose 16 bits serve the next two states."""
BLOCK_SIZES = tuple(2**k for k in range(5, 13))


class Storage(Enum):
    """How one state lies in memory: as numbers, or as codes with the scales of their blocks."""

    FLOATS = 32
    BYTES = 8
    """Entries of `state_table`, times absmax."""
    NIBBLES = 4
    """The same with 16 entries, two codes to a byte."""
    LOGARITHMS = "log"
    """Squares in nibbles (log_codes)."""
    RATIOS = "ratio"
    """Nibbles relative to the root of a square (log_codes)."""

    @property
    def bits(self) -> int:
        return self.value if isinstance(self.value, int) else 4

    @property
    def scales(self) -> int:
        """Numbers that a block keeps beside its codes."""
        return {Storage.FLOATS: 0, Storage.LOGARITHMS: 2}.get(self, 1)


def storage_of(state: State, bits: int, logarithmic: bool) -> Storage:
    """How a state is stored in `bits`; logarithmic: whether 4 bits are those of log_codes."""
    if state.exact:
        return Storage.FLOATS
    if bits != 4 or not logarithmic:
        return Storage(bits)
    if not state.signed:
        return Storage.LOGARITHMS
    if state.slow:
        return Storage.BYTES
    return Storage.RATIOS if state.relative else Storage.NIBBLES


@cache
def state_table(signed: bool, bits: int) -> Tensor:
    """Code table of a state of 8 or 4 bits, float32 [2**bits]; not to be changed.

    Dynamic trees, but for squares in 4 bits: linear without zero (arXiv:2309.01507). In 8 bits a square above 0 never
    takes the code of 0.
    """
    if bits == 4 and not signed:
        return codebooks.linear(signed=False, bits=4, zero=False)
    return codebooks.dynamic_tree(signed=signed, bits=bits)


def to_units(values: Tensor) -> tuple[Tensor, Tensor]:
    """[blocks, n] -> (values / absmax, absmax [blocks]), as entries of a table stand for them."""
    largest = values.abs().amax(-1)
    largest = torch.where(largest >= ABSMAX_LEAST, largest, 0.0)
    inverse = torch.where(largest > 0, 1.0 / largest, 0.0)
    return values * inverse[:, None], largest


def code_count(numel: int, bits: int, row_length: int) -> int:
    """Bytes of codes for a tensor: one per element, or one per two elements of a row."""
    if bits == 8 or not numel:
        return numel
    return numel // row_length * -(-row_length // 2)


def block_count(numel: int, block_size: int, row_length: int) -> int:
    """Number of absmax of a tensor."""
    return numel // row_length * -(-row_length // block_size) if numel else 0
