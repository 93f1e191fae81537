"""Checks that the four block-wise ops share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from bittern.ops._check import check_dtype

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
BLOCK_SIZES = tuple(2**k for k in range(5, 13))


def check_block_size(op: str, block_size: int) -> None:
    if block_size not in BLOCK_SIZES:
        raise ValueError(f"{op}: block_size must be a power of two from 32 to 4096; got {block_size}")


def check_code(op: str, code: Tensor, least: int = 2, most: int = 256, keep_nonzero: bool = False) -> None:
    """float32 [least .. most], finite and not decreasing; for keep_nonzero one 0, at its start."""
    check_dtype(op, "code", code, (torch.float32,))
    if code.ndim != 1 or not least <= code.shape[0] <= most:
        entries = f"{least}" if least == most else f"{least} to {most}"
        raise ValueError(f"{op}: code must be one row of {entries} entries; got shape {list(code.shape)}")
    if isinstance(code, FakeTensor) or code.device.type == "meta":
        return
    if not (code.isfinite().all() and (code[1:] >= code[:-1]).all()):
        raise ValueError(f"{op}: code must be finite and must not decrease; got another order; sort it first")
    if keep_nonzero and not (code[0] == 0 and code[1] > 0):
        raise ValueError(
            f"{op}: keep_nonzero=True needs a table that starts with one 0; got {float(code[0])!r} and "
            f"{float(code[1])!r} first; use an unsigned table or leave keep_nonzero out"
        )


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
