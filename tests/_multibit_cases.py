# SPDX-License-Identifier: Apache-2.0
"""Arguments for `multibit_quantize` and `multibit_matvec`, by label."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from _conv_cases import generator, words

QUANTIZED = (
    *((1, 1, 2, False), (63, 2, 2, False), (64, 1, 0, False), (65, 3, 2, True), (200, 4, 0, True)),
    *((257, 2, 0, False), (1000, 3, 5, False), (130, 8, 1, False)),
)
"""Numbers of a row, planes, cycles, refined: half words, sums that are not full, each start, all codes of a byte."""
PRODUCTS = (
    *((1, 1, 1, 1, 1), (65, 7, 2, 2, 1), (64, 33, 3, 3, 1), (1000, 100, 2, 1, 1), (300, 129, 1, 4, 2)),
    *((2100, 40, 3, 2, 1), (130, 70, 4, 3, 5), (5000, 65, 2, 2, 1), (70, 1100, 8, 8, 1), (63, 40, 2, 2, 600)),
)
"""in_features, rows, planes of w and of x, inputs: last words and rows that are not full, few columns, sums beyond 16
bits, more planes than a table counts, and inputs of several parts."""


def awkward_rows(label: str, n: int) -> Tensor:
    """Normal numbers; zeros, one size in two signs, few sizes, huge and subnormal numbers, and both zeros."""
    x = torch.randn((8, n), generator=generator(label))
    x[1], x[3, ::2] = 0.0, -0.0
    x[2] = torch.where(x[2] >= 0, 0.5, -0.5)
    x[4] = x[4].round()
    x[5] *= 1e35
    x[6] *= 1e-40
    return x


def quantized_arguments() -> Iterator[tuple[str, Callable[[], tuple[Any, ...]]]]:
    for n, planes, cycles, refined in QUANTIZED:
        label = f"{n}-{planes}planes-{cycles}cycles{'-refined' * refined}"

        def make(label: str = label, n: int = n, rest: tuple[Any, ...] = (planes, cycles, refined)) -> tuple[Any, ...]:
            return (awkward_rows(label, n), *rest)

        yield label, make
    yield "bfloat16", lambda: (awkward_rows("bfloat16", 99).bfloat16().view(2, 4, 99).transpose(0, 1), 2)
    yield "vector", lambda: (torch.randn(77, generator=generator("vector")), 2)
    yield "empty", lambda: (torch.zeros(0, 5), 3)


def product_arguments() -> Iterator[tuple[str, Callable[[], tuple[Any, ...]]]]:
    for sizes in PRODUCTS:
        yield "x".join(map(str, sizes)), partial(_product, *sizes)
    yield "vector", _vector
    yield "empty", lambda: _product(70, 9, 2, 3, 0)


def _product(n: int, rows: int, w_planes: int, x_planes: int, batch: int) -> tuple[Any, ...]:
    label = f"{n} {rows} {w_planes} {x_planes} {batch}"
    scale = torch.randn((batch, x_planes), generator=generator("x" + label))
    w_scale = torch.randn((w_planes, rows), generator=generator("w" + label)).t()
    bias = torch.randn(rows, generator=generator("b" + label)) if rows % 2 else None
    x, w = words("x" + label, x_planes, batch, bits=n), words("w" + label, w_planes, rows, bits=n)
    return x, scale, w, w_scale, n, bias


def _vector() -> tuple[Any, ...]:
    x, scale, *rest = _product(70, 9, 2, 2, 1)
    return x[:, 0], scale[0], *rest
