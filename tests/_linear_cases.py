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
from bittern.ops.linear_4bit.scales import decoded_absmax
from bittern.ops.nested import quantize_absmax

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
    scales: str = "float"
    """Or in bytes: "nested", "powers" of two."""

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return (
            f"{name}-{self.m}x{self.rows}x{self.columns}-b{self.block}-{self.table}{'-bias' * self.bias}{self._kind()}"
        )

    def _kind(self) -> str:
        return "" if self.scales == "float" else f"-{self.scales}"

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
        packed, absmax, table, *nested = self._scaled_weight()
        return x, packed, absmax, table, self.block, self.rows, bias, *nested

    def backward(self) -> tuple[Any, ...]:
        grad = self._random(self.m, self.rows, salt="g").to(self.dtype)
        packed, absmax, table, *nested = self._scaled_weight()
        return grad, packed, absmax, table, self.block, self.columns, *nested

    def _scaled_weight(self) -> tuple[Tensor, ...]:
        packed, absmax, table = self._weight()
        if self.scales == "nested":
            codes, scales, offset = quantize_absmax(absmax)
            return packed, codes, table, scales, offset
        if self.scales == "powers":
            return packed, (torch.frexp(absmax).exponent + 127).to(torch.uint8), table
        return packed, absmax, table

    def int8(self, threshold: float) -> tuple[Any, ...]:
        x, _, _, _, _, _, bias, *_ = self.forward()
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
        for scales in ("nested", "powers"):  # rows of every lead, more blocks than share a nested scale
            yield from ((Linear(m, 70, 1029, 32, dtype, scales=scales), False) for m in (1, 5))
            yield Linear(3, 9, 130, 64, dtype, scales=scales), True


def check_sum(result: Tensor, arguments: tuple[Any, ...], backward: bool) -> None:
    """`linear_4bit` or its backward: within the rounding of a sum of its products."""
    x, packed, absmax, code, block, size, *rest = arguments
    bias = None if backward else rest.pop(0)
    absmax = decoded_absmax(absmax, *(rest or (None, None)))
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
