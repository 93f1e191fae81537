# SPDX-License-Identifier: Apache-2.0
"""The arguments of `quantize_blockwise` and of `quantize_4bit`, which differ in the size of a block."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class QuantizeArguments(NamedTuple):
    """As the schema names them; `bittern.ops.quantize_blockwise` says what they mean."""

    x: Tensor
    code: Tensor
    block_size: int = 256
    keep_nonzero: bool = False
    seed: int | None = None

    @property
    def blocks(self) -> int:
        """How many numbers absmax has."""
        return -(-self.x.numel() // self.block_size)

    @property
    def pairs(self) -> int:
        """Bytes of the codes where two share one."""
        return -(-self.x.numel() // 2)


def quantize_4bit_arguments(x: Tensor, code: Tensor, block_size: int = 64, **others: Any) -> QuantizeArguments:
    """Those of `quantize_4bit`."""
    return QuantizeArguments(x, code, block_size, **others)
