# SPDX-License-Identifier: Apache-2.0
"""Checks that the four block-wise ops share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from bittern.ops._check import check_dtype
from bittern.ops.quantize_blockwise.per_table import PerTable

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
BLOCK_SIZES = tuple(2**k for k in range(5, 13))


def check_block_size(op: str, block_size: int) -> None:
    if block_size not in BLOCK_SIZES:
        raise ValueError(f"{op}: block_size must be a power of two from 32 to 4096; got {block_size}")


def check_code(op: str, code: Tensor, least: int = 2, most: int = 256, keep_nonzero: bool = False) -> None:
    """float32 [least .. most], finite and not decreasing; for keep_nonzero one 0, at its start.

    The entries are read once per table and again after it was changed in place, so that later calls wait for no device.
    """
    check_dtype(op, "code", code, (torch.float32,))
    if code.ndim != 1 or not least <= code.shape[0] <= most:
        entries = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"{op}: code must be one row of {entries} entries; got shape {list(code.shape)}")
    if isinstance(code, FakeTensor) or code.device.type == "meta":
        return
    facts = _facts(code)
    if not facts.ordered:
        raise ValueError(f"{op}: code must be finite and must not decrease; got another order; sort it first")
    if keep_nonzero and not facts.one_zero_first:
        raise ValueError(
            f"{op}: keep_nonzero=True needs a table that starts with one 0; got {float(code[0])!r} and "
            f"{float(code[1])!r} first; use an unsigned table or leave keep_nonzero out"
        )


class TableFacts(NamedTuple):
    """What the block-wise ops need to know of the entries of a table."""

    ordered: bool
    """Finite and not decreasing."""
    one_zero_first: bool


def read_table(code: Tensor) -> TableFacts:
    """Looks at every entry, which waits for the device of `code`."""
    entries = code.detach().cpu()
    ordered = bool(entries.isfinite().all() and (entries[1:] >= entries[:-1]).all())
    return TableFacts(ordered, bool(entries[0] == 0 and entries[1] > 0))


_facts = PerTable(read_table)


def check_absmax(op: str, absmax: Tensor, n: int, block_size: int) -> None:
    check_dtype(op, "absmax", absmax, (torch.float32,))
    blocks = -(-n // block_size)
    if tuple(absmax.shape) != (blocks,):
        raise ValueError(
            f"{op}: absmax must be [{blocks}], one per block of {block_size} of {n} elements; got {list(absmax.shape)}"
        )


def check_float(op: str, dtype: torch.dtype) -> None:
    if dtype not in FLOATS:
        raise TypeError(f"{op}: dtype must be float32, bfloat16 or float16; got {str(dtype).removeprefix('torch.')}")
