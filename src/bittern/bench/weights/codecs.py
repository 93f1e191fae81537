# SPDX-License-Identifier: Apache-2.0
"""Block codecs, bytes by the dynamic tree and nibbles by NF4, against bitsandbytes, or else torch's copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from bittern.bench.core.machine import FLOAT_BYTES
from bittern.bench.core.rows import Figure, OpRow
from bittern.bench.core.timing import compare, latency
from bittern.ops import (
    chosen_isa,
    codebooks,
    dequantize_4bit,
    dequantize_blockwise,
    quantize_4bit,
    quantize_blockwise,
)

BLOCK, NF4_BLOCK = 256, 64
NF4_QUANTIZE_MS, NF4_DEQUANTIZE_MS = 30.0, 8.0
"""For 16,777,216 numbers."""


@dataclass(frozen=True, slots=True)
class CodecRun:
    """What block codecs take with a number of threads."""

    threads: int
    codecs: tuple[OpRow, ...]
    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two ways to the same result, and how much faster ours should be."""

    subject: str
    ours: Callable[[], object]
    baseline: str
    theirs: Callable[[], object]
    target: float | None
    moved: int
    """Bytes that must be read and written."""


def measure(elements: int, budget_s: float) -> CodecRun:
    """Of `elements` float32, about `budget_s` seconds for each row; the targets are for 16,777,216."""
    x = torch.randn(elements)
    rows = tuple(_row(pair, budget_s) for pair in _pairs(x))
    return CodecRun(torch.get_num_threads(), rows, tuple(_figures(x)))


def _row(pair: _Pair, budget_s: float) -> OpRow:
    compared = compare(pair.ours, pair.theirs, budget_s=budget_s)
    return OpRow(
        pair.subject,
        chosen_isa().label,
        pair.baseline,
        compared.latency_us,
        compared.baseline_latency_us,
        compared.speedup,
        pair.moved / compared.latency_us.median / 1e3,
        "GB/s moved",
        None,
        pair.target,
    )


def _pairs(x: Tensor) -> Iterator[_Pair]:
    elements, tree, nf4 = x.numel(), codebooks.dynamic_tree(), codebooks.nf4()
    codes, absmax = quantize_blockwise(x, tree, BLOCK)
    packed, scales = quantize_4bit(x, nf4, NF4_BLOCK)
    byte_moved, nibble_moved = elements * (FLOAT_BYTES + 1), elements * (2 * FLOAT_BYTES + 1) // 2
    ours: tuple[tuple[str, Callable[[], object], int, float | None], ...] = (
        ("quantize_blockwise", lambda: quantize_blockwise(x, tree, BLOCK), byte_moved, 8.0),
        ("dequantize_blockwise", lambda: dequantize_blockwise(codes, absmax, tree, BLOCK), byte_moved, 2.5),
        ("quantize_4bit NF4", lambda: quantize_4bit(x, nf4, NF4_BLOCK), nibble_moved, None),
        (
            "dequantize_4bit NF4",
            lambda: dequantize_4bit(packed, scales, nf4, NF4_BLOCK, [elements]),
            nibble_moved,
            None,
        ),
    )
    rivals = _bitsandbytes(x) if find_spec("bitsandbytes") is not None else None
    for i, (name, call, moved, target) in enumerate(ours):
        if rivals is None:
            yield _Pair(f"{name}, {elements:,}", call, "torch copy", x.clone, None, moved)
        else:
            yield _Pair(f"{name}, {elements:,}", call, "bitsandbytes", rivals[i], target, moved)


def _bitsandbytes(x: Tensor) -> tuple[Callable[[], object], ...]:
    import bitsandbytes.functional as other

    codes, state = other.quantize_blockwise(x, blocksize=BLOCK)
    packed, state4 = other.quantize_4bit(x, blocksize=NF4_BLOCK, quant_type="nf4")
    return (
        lambda: other.quantize_blockwise(x, blocksize=BLOCK),
        lambda: other.dequantize_blockwise(codes, state),
        lambda: other.quantize_4bit(x, blocksize=NF4_BLOCK, quant_type="nf4"),
        lambda: other.dequantize_4bit(packed, state4),
    )


def _figures(x: Tensor) -> Iterator[Figure]:
    nf4 = codebooks.nf4()
    packed, scales = quantize_4bit(x, nf4, NF4_BLOCK)
    there = latency(lambda: quantize_4bit(x, nf4, NF4_BLOCK)).median / 1e3
    back = latency(lambda: dequantize_4bit(packed, scales, nf4, NF4_BLOCK, [x.numel()])).median / 1e3
    yield Figure(f"NF4 quantization of {x.numel():,}", there, "ms", NF4_QUANTIZE_MS)
    yield Figure(f"NF4 dequantization of {x.numel():,}", back, "ms", NF4_DEQUANTIZE_MS)
