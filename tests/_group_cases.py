# SPDX-License-Identifier: Apache-2.0
"""Arguments for products with integer weights in groups, and what their results must be."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from _tolerance import assert_exact, assert_reduction
from bittern.ops.linear_groups.layout import groups_of, pack_codes, pack_rows

FORMS = (
    *((2, "none", torch.float32), (3, "uint8", torch.float16), (4, "none", torch.float16), (4, "uint8", torch.float32)),
    *((4, "float32", torch.float32), (3, "none", torch.float32), (8, "uint8", torch.float32)),
)
"""Bits, the type of zero points and that of scales."""
SHAPES = ((5, 64, 32), (33, 1100, 128), (17, 70, 0), (70, 333, 64), (16, 2080, 0), (3, 1, 64))
"""Rows, columns and group: short last tiles and groups, one row more than tiles hold, groups of several panels."""
INPUTS = (1, 2, 3, 7, 13)
"""In registers, in one tile of inputs and in several of unequal size."""


@dataclass(frozen=True)
class Groups:
    """One call: x [m, columns] times a weight [rows, columns]."""

    m: int
    rows: int
    columns: int
    group: int
    bits: int = 4
    zero: str = "none"
    scale: torch.dtype = torch.float32
    dtype: torch.dtype = torch.float32
    bias: bool = True
    int8: bool = False

    def __str__(self) -> str:
        names = [str(d).removeprefix("torch.") for d in (self.dtype, self.scale)]
        sizes = f"{self.m}x{self.rows}x{self.columns}-g{self.group}"
        return f"{names[0]}-{sizes}-{self.bits}bits-{self.zero}-{names[1]}{'-bias' * self.bias}{'-int8' * self.int8}"

    def _draw(self, salt: str) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32((str(self) + salt).encode()))

    def weight(self) -> tuple[Any, ...]:
        """Codes, scale, zero and group."""
        draw, shape = self._draw("w"), (self.rows, groups_of(self.columns, self.group))
        codes = torch.randint(2**self.bits, (self.rows, self.columns), generator=draw, dtype=torch.uint8)
        scale = (torch.randn(shape, generator=draw) / 4).to(self.scale)
        zero = {
            "none": None,
            "uint8": torch.randint(2**self.bits, shape, generator=draw, dtype=torch.uint8),
            "float32": torch.rand(shape, generator=draw) * 2**self.bits,
        }[self.zero]
        return pack_codes(codes, self.bits), pack_rows(scale), None if zero is None else pack_rows(zero), self.group

    def forward(self) -> tuple[Any, ...]:
        x = torch.randn(self.m, self.columns, generator=self._draw("x")).to(self.dtype)
        bias = torch.randn(self.rows, generator=self._draw("b")).to(self.dtype) if self.bias else None
        return x, *self.weight(), self.rows, bias, self.int8

    def decode(self) -> tuple[Any, ...]:
        return *self.weight(), self.rows, self.columns, self.dtype


def group_products() -> Iterator[tuple[Groups, bool]]:
    """Every case, and whether Triton's interpreter gets it too. The native tests try every form of every shape."""
    for i, (rows, columns, group) in enumerate(SHAPES):
        for j, (bits, zero, scale) in enumerate(FORMS):
            dtype = (torch.float32, torch.bfloat16, torch.float16)[(i + j) % 3]
            m, int8 = INPUTS[(i + 2 * j) % len(INPUTS)], (i + j) % 2 == 0
            yield Groups(m, rows, columns, group, bits, zero, scale, dtype, i % 2 == 0, int8), m * columns < 150
    for int8 in (False, True):
        yield Groups(520, 17, 40, 32, int8=int8), False  # more than one block of inputs
        yield Groups(3, 0, 64, 64, int8=int8), False
        yield Groups(2, 5, 0, 0, int8=int8), False
    yield Groups(0, 5, 64, 64), True
    # more tiles of columns than Triton's kernel takes at a time
    yield Groups(1, 17, 1100, 128, 3, "uint8", torch.float16, torch.bfloat16), True
    yield Groups(2, 5, 1060, 0, 4, "float32", torch.float32, torch.float16, bias=False), True


def group_weights() -> Iterator[tuple[Groups, bool]]:
    for i, (rows, columns, group) in enumerate(SHAPES):
        for bits, zero, scale in FORMS[i % 3 :: 3]:
            dtype = (torch.float32, torch.bfloat16, torch.float16)[i % 3]
            yield Groups(1, rows, columns, group, bits, zero, scale, dtype), rows * columns < 400
    yield Groups(1, 0, 64, 64), True


def check_group_product(result: Tensor, arguments: tuple[Any, ...], op: Any) -> None:
    """int8: the reference's bits. Else within the rounding of a sum of its products with the weight in float64."""
    x, codes, scale, zero, group, rows, bias, int8 = arguments
    reference: Callable[..., Tensor] = op.reference
    if int8:
        assert_exact(result, reference(*arguments))
        return
    weight = double_weight(codes, scale, zero, group, rows, x.shape[-1])
    exact = x.double() @ weight.t()
    # what is added up are products of x with codes and with zero points, whose difference is the weight
    most = 2 ** codes.shape[2] * scale.double().abs().max() if scale.numel() else torch.tensor(0.0)
    largest = x.double().abs().max() * most if x.numel() else torch.tensor(0.0)
    if bias is not None:
        exact = exact + bias.double()
        largest = torch.maximum(largest, bias.double().abs().max()) if bias.numel() else largest
    assert result.dtype == x.dtype
    assert_reduction(result, exact, x.shape[-1] + 1, largest)


def double_weight(codes: Tensor, scale: Tensor, zero: Tensor | None, group: int, rows: int, columns: int) -> Tensor:
    """W [rows, columns] in float64, number by number from the bits where `layout` says that they are."""
    bits = codes.shape[2]
    weight = torch.zeros(rows, columns, dtype=torch.float64)
    words = codes.long() & 0xFFFFFFFF
    row, column = torch.arange(rows).view(-1, 1), torch.arange(columns).view(1, -1)
    inside, low = column % 32, 0
    for plane in {2: (2,), 3: (2, 1), 4: (4,), 8: (8,)}[bits]:
        word, place = inside // (32 // plane), inside % (32 // plane)
        shift = 8 * (place % 4) + plane * (place // 4)
        found = words[row // 16, column // 32, word + low, row % 16]
        weight += (found >> shift & (1 << plane) - 1).double() * 2**low
        low += plane
    if rows and columns:
        g = column // group if group else column * 0
        points = 2.0 ** (bits - 1) if zero is None else zero.double()[row // 16, g, row % 16]
        weight = (weight - points) * scale.double()[row // 16, g, row % 16]
    return weight
