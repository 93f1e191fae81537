# SPDX-License-Identifier: Apache-2.0
"""Arguments for the linear layers from 4-bit and 8-bit weights, and what their results must be."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from _tolerance import assert_exact, assert_reduction
from bittern.ops import codebooks, quantize_4bit
from bittern.ops.linear_4bit.reference import decoded_weight

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = (
    *((5, 64, 64), (7, 96, 32), (33, 1024, 64), (10, 130, 64), (3, 63, 32), (40, 2144, 32), (9, 640, 128)),
    *((6, 333, 32), (9, 1100, 128), (4, 45, 512)),
)
"""Rows, columns and block size: whole and short chunks of every instruction set, blocks across rows, odd rows,
blocks that begin anywhere in a word, and that hold several rows."""
INPUTS = (1, 2, 3, 7, 50)
"""In registers, in one tile and its rests, in more than one block of inputs."""


@dataclass(frozen=True)
class Linear:
    """One call: x [m, columns] times a weight [rows, columns]."""

    m: int
    rows: int
    columns: int
    block: int
    dtype: torch.dtype
    table: str = "nf4"
    bias: bool = True

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"{name}-{self.m}x{self.rows}x{self.columns}-b{self.block}-{self.table}{'-bias' * self.bias}"

    def _random(self, *shape: int, salt: str = "") -> Tensor:
        draw = torch.Generator().manual_seed(zlib.crc32((str(self) + salt).encode()))
        return torch.randn(shape, generator=draw)

    def _weight(self) -> tuple[Tensor, Tensor, Tensor]:
        table = codebooks.nf4() if self.table == "nf4" else codebooks.fp4()
        packed, absmax = quantize_4bit.reference(self._random(self.rows, self.columns), table, self.block)
        if self.table == "fp4 shuffled":  # decoding asks for no order
            return packed, absmax, table.flip(0)
        return packed, absmax, table

    def forward(self) -> tuple[Any, ...]:
        x = self._random(self.m, self.columns, salt="x").to(self.dtype)
        bias = self._random(self.rows, salt="b").to(self.dtype) if self.bias else None
        return x, *self._weight(), self.block, self.rows, bias

    def backward(self) -> tuple[Any, ...]:
        grad = self._random(self.m, self.rows, salt="g").to(self.dtype)
        return grad, *self._weight(), self.block, self.columns

    def int8(self, threshold: float) -> tuple[Any, ...]:
        x, _, _, _, _, _, bias = self.forward()
        weight = (self._random(self.rows, self.columns) * 50).round().clamp(-127, 127).to(torch.int8)
        scale = self._random(self.rows, salt="s").abs()
        return x, weight, scale, bias, threshold


def linears() -> Iterator[tuple[Linear, bool]]:
    """Every case, and whether Triton's interpreter gets it too."""
    for dtype in DTYPES:
        for rows, columns, block in SHAPES:
            yield from ((Linear(m, rows, columns, block, dtype), (m, columns) in ((7, 96), (3, 130))) for m in INPUTS)
        yield Linear(0, 5, 64, 64, dtype), True
        yield Linear(3, 0, 64, 64, dtype, bias=False), True
        yield Linear(3, 4, 0, 64, dtype), False
        yield Linear(2, 5, 192, 64, dtype, "fp4 shuffled", bias=False), True
        yield Linear(1, 70, 4160, 64, dtype, bias=False), False


def check_sum(result: Tensor, arguments: tuple[Any, ...], backward: bool) -> None:
    """`linear_4bit` or its backward: within the rounding of a sum of its products."""
    x, packed, absmax, code, block, size = arguments[:6]
    bias = None if backward else arguments[6]
    shape = (x.shape[-1], size) if backward else (size, x.shape[-1])
    weight = decoded_weight(packed, absmax, code, block, shape, x.dtype).double()
    exact = x.double() @ (weight if backward else weight.t())
    largest = x.double().abs().max() * weight.abs().max() if x.numel() and weight.numel() else torch.tensor(0.0)
    if bias is not None:
        exact = exact + bias.double()
        largest = torch.maximum(largest, bias.double().abs().max())
    assert result.dtype == x.dtype
    assert_reduction(result, exact, x.shape[-1] + 1, largest)


def check_int8(result: Tensor, arguments: tuple[Any, ...], reference: Callable[..., Tensor]) -> None:
    """`linear_8bit`: bit for bit without outliers; with them within the rounding of their sum."""
    x, weight, scale, _, threshold = arguments
    expected = reference(*arguments)
    if not threshold:
        assert_exact(result, expected)
        return
    largest = x.double().abs().max() * scale.double().max() if x.numel() and scale.numel() else torch.tensor(1.0)
    assert_reduction(result, expected.double(), weight.shape[1] + 1, largest)
