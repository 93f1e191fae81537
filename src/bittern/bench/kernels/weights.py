# SPDX-License-Identifier: Apache-2.0
"""`bittern bench weights`: block codecs, and products with weights of 2 to 8 bits, against torch and bitsandbytes.

Each row is timed in turn with what it is compared to, in one process. Rows against bitsandbytes are there where it is
installed (`pip install 'bittern[bench]'`). The weight is 4096 x 4096, NF4 in blocks of 64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bittern.bench.core.machine import FLOAT_BYTES, Machine, this_machine
from bittern.bench.core.rows import Figure, OpRow, figures_table, rows_table
from bittern.bench.core.store import to_json
from bittern.bench.core.timing import check_budget, compare, latency, torch_threads
from bittern.nn import Linear4bit, Linear8bit, LinearGroups
from bittern.ops import (
    chosen_isa,
    codebooks,
    dequantize_4bit,
    dequantize_blockwise,
    quantize_4bit,
    quantize_blockwise,
)

BLOCK, NF4_BLOCK = 256, 64
BNB = "bitsandbytes"
NF4_QUANTIZE_MS, NF4_DEQUANTIZE_MS = 30.0, 8.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """The targets hold for the defaults; smaller sizes only show that everything runs."""

    elements: int = 4096 * 4096
    features: int = 4096
    batch: int = 32


@dataclass(frozen=True, repr=False, slots=True)
class WeightsReport:
    """Everything measured by one run; `print(report)` shows tables."""

    machine: Machine
    rows: tuple[OpRow, ...]
    figures: tuple[Figure, ...]

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        return "\n\n".join(
            [
                str(self.machine),
                rows_table(self.rows),
                "ratio: time of what it is compared to / bittern's, pair by pair, median (min - max).",
                figures_table(self.figures),
            ]
        )

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ways to the same result, and how much faster ours should be."""

    subject: str
    ours: Callable[[], object]
    baseline: str
    theirs: Callable[[], object]
    target: float | None = None
    moved: int | None = None
    """Bytes that must be read and written."""
    macs: int | None = None
    """Products of the layer."""


def run(
    threads: Sequence[int] = (1, 2),
    *,
    budget_s: float = 2.0,
    sizes: Sizes = Sizes(),
    on_row: Callable[[str], None] | None = None,
) -> WeightsReport:
    """Measure everything on the CPU, about `budget_s` seconds for each row.

    Raises: ValueError for less than one thread or a budget that is not positive.
    """
    check_budget(budget_s)
    rows: list[OpRow] = []
    figures: list[Figure] = []
    for count in threads:
        with torch_threads(count):
            for pair in (*_codecs(sizes), *_products(sizes)):
                if on_row is not None:
                    on_row(f"{pair.subject}, {count} threads")
                rows.append(_row(pair, count, budget_s))
            figures += _nf4_figures(sizes, count)
    with torch_threads(max(threads)):
        return WeightsReport(this_machine(), tuple(rows), tuple(figures))


def _row(pair: Pair, threads: int, budget_s: float) -> OpRow:
    compared = compare(pair.ours, pair.theirs, budget_s=budget_s)
    work = pair.moved if pair.moved is not None else pair.macs
    return OpRow(
        f"{pair.subject}, {threads} thread{'s' if threads > 1 else ''}",
        chosen_isa().label,
        pair.baseline,
        compared.latency_us,
        compared.baseline_latency_us,
        compared.speedup,
        None if work is None else work / compared.latency_us.median / 1e3,
        "" if work is None else "GB/s moved" if pair.moved is not None else "GMAC/s",
        None,
        pair.target,
    )


def _codecs(sizes: Sizes) -> Iterator[Pair]:
    """Bytes by the dynamic tree, nibbles by NF4; a copy of the floats is the limit."""
    x, tree, nf4 = torch.randn(sizes.elements), codebooks.dynamic_tree(), codebooks.nf4()
    codes, absmax = quantize_blockwise(x, tree, BLOCK)
    packed, scales = quantize_4bit(x, nf4, NF4_BLOCK)
    byte_moved, nibble_moved = sizes.elements * (FLOAT_BYTES + 1), sizes.elements * (2 * FLOAT_BYTES + 1) // 2
    shape = [sizes.elements]
    ours: tuple[tuple[str, Callable[[], object], int, float | None], ...] = (
        ("quantize_blockwise", lambda: quantize_blockwise(x, tree, BLOCK), byte_moved, 8.0),
        ("dequantize_blockwise", lambda: dequantize_blockwise(codes, absmax, tree, BLOCK), byte_moved, 2.5),
        ("quantize_4bit NF4", lambda: quantize_4bit(x, nf4, NF4_BLOCK), nibble_moved, None),
        ("dequantize_4bit NF4", lambda: dequantize_4bit(packed, scales, nf4, NF4_BLOCK, shape), nibble_moved, None),
    )
    rivals = _bitsandbytes_codecs(x)
    for i, (name, call, moved, target) in enumerate(ours):
        if rivals is None:
            yield Pair(f"{name}, {sizes.elements:,}", call, "torch copy", x.clone, None, moved)
        else:
            yield Pair(f"{name}, {sizes.elements:,}", call, BNB, rivals[i], target, moved)


def _bitsandbytes_codecs(x: Tensor) -> list[Callable[[], object]] | None:
    with suppress(ImportError):
        import bitsandbytes.functional as other

        codes, state = other.quantize_blockwise(x, blocksize=BLOCK)
        packed, state4 = other.quantize_4bit(x, blocksize=NF4_BLOCK, quant_type="nf4")
        return [
            lambda: other.quantize_blockwise(x, blocksize=BLOCK),
            lambda: other.dequantize_blockwise(codes, state),
            lambda: other.quantize_4bit(x, blocksize=NF4_BLOCK, quant_type="nf4"),
            lambda: other.dequantize_4bit(packed, state4),
        ]
    return None


def _nf4_figures(sizes: Sizes, threads: int) -> Iterator[Figure]:
    x, nf4 = torch.randn(sizes.elements), codebooks.nf4()
    packed, scales = quantize_4bit(x, nf4, NF4_BLOCK)
    there = latency(lambda: quantize_4bit(x, nf4, NF4_BLOCK)).median / 1e3
    back = latency(lambda: dequantize_4bit(packed, scales, nf4, NF4_BLOCK, [sizes.elements])).median / 1e3
    yield Figure(f"NF4 quantization of {sizes.elements:,}, {threads} thread(s)", there, "ms", NF4_QUANTIZE_MS)
    yield Figure(f"NF4 dequantization of {sizes.elements:,}, {threads} thread(s)", back, "ms", NF4_DEQUANTIZE_MS)


def _products(sizes: Sizes) -> Iterator[Pair]:
    """One input, a batch, and a training step through the frozen weight."""
    n = sizes.features
    linear = nn.Linear(n, n, bias=False).requires_grad_(False)
    half = nn.Linear(n, n, bias=False, dtype=torch.bfloat16).requires_grad_(False)
    four, eight = Linear4bit.from_float(linear), Linear8bit.from_float(linear)
    one, many = torch.randn(1, n), torch.randn(sizes.batch, n)
    name = f"Linear4bit {n} x {n}"

    def pair(layer: nn.Module, name: str, x: Tensor, rival: nn.Module, against: str, target: float | None) -> Pair:
        label = f"{name}, {str(x.dtype).removeprefix('torch.')}, batch {len(x)}"
        return Pair(label, _call(layer, x), against, _call(rival, x), target, macs=n * n * len(x))

    yield pair(four, name, one, linear, "torch float32", 3.5)
    yield pair(four, name, many, linear, "torch float32", None)
    yield pair(four, name, one.bfloat16(), half, "torch bfloat16", None)
    yield pair(four, name, many.bfloat16(), half, "torch bfloat16", 1 / 1.2)
    for x in (one, many):
        yield pair(eight, f"Linear8bit {n} x {n}", x, linear, "torch float32", None)
    integers = LinearGroups.from_float(linear)
    quick = LinearGroups.from_float(linear, activations="int8")
    for x in (one, many):
        yield pair(integers, f"LinearGroups {n} x {n}", x, linear, "torch float32", None)
        yield pair(quick, f"LinearGroups {n} x {n}, int8 inputs", x, linear, "torch float32", None)
    rival = _bitsandbytes_layer(linear)
    if rival is not None:
        yield pair(four, name, one.bfloat16(), rival, f"{BNB}, packed", 1.0)
        yield pair(four, name, many.bfloat16(), rival, f"{BNB}, packed", None)
        trained = _bitsandbytes_layer(linear, training=True)
        assert trained is not None
        x = one.bfloat16()
        yield Pair(f"{name}, bfloat16, training step, batch 1", _step(four, x), BNB, _step(trained, x), 4.0)


def _call(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    def forward() -> object:
        with torch.no_grad():
            return layer(x)

    return forward


def _step(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    """Forward, and backward to the input."""

    def step() -> object:
        inputs = x.clone().requires_grad_()
        y: Tensor = layer(inputs)
        y.backward(torch.ones_like(y))  # type: ignore[no-untyped-call]
        return inputs.grad

    return step


def _bitsandbytes_layer(linear: nn.Linear, training: bool = False) -> nn.Module | None:
    """Its Linear4bit with NF4 and bfloat16 products; in eval mode it packs the weight for this processor."""
    with suppress(ImportError):
        import bitsandbytes.nn as other

        layer: Any = other.Linear4bit(
            linear.in_features, linear.out_features, bias=False, quant_type="nf4", compute_dtype=torch.bfloat16
        )
        layer.weight = other.Params4bit(
            linear.weight.detach().clone(), requires_grad=False, quant_type="nf4", compress_statistics=False
        )
        module: nn.Module = layer.to("cpu").train(training)
        return module
    return None
