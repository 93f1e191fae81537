# SPDX-License-Identifier: Apache-2.0
"""Weights and inputs of a few scaled signs against torch's fp32 linear layer, one input: a step of a recurrent network.

Both of the product alone, whose input is quantized already, and of a real input quantized on the way by two alternating
cycles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from bittern.bench.core.rows import OpRow
from bittern.bench.core.timing import compare
from bittern.ops import Isa, PreparedMultibitMatvec, multibit_quantize

TARGETS = {2: 4.0, 3: 2.5}
"""By the planes of weights and inputs: least times faster, quantization counted."""


def multibit_rows(isa: Isa, hidden: tuple[int, ...], budget_s: float) -> list[tuple[str, Callable[[], OpRow]]]:
    """Subject and measurement of every row: `hidden` inputs and as many outputs."""
    return [
        (_subject(size, planes, quantizing), partial(_measure, isa, size, planes, budget_s, quantizing))
        for size in hidden
        for planes in TARGETS
        for quantizing in (False, True)
    ]


def _subject(size: int, planes: int, quantizing: bool) -> str:
    head = f"multibit_matvec W{planes}A{planes} {size}x{size}"
    return f"{head}, quantizing counted" if quantizing else head


def _measure(isa: Isa, size: int, planes: int, budget_s: float, quantizing: bool) -> OpRow:
    x, w = torch.randn(1, size), torch.randn(size, size)
    prepared = PreparedMultibitMatvec(*multibit_quantize(w, planes, cycles=0), size, isa=isa)
    words, scale = multibit_quantize(x, planes)
    candidate = (lambda: prepared.quantized(x, planes)) if quantizing else (lambda: prepared(words, scale))
    compared = compare(candidate, lambda: F.linear(x, w), budget_s=budget_s)
    return OpRow(
        _subject(size, planes, quantizing),
        isa.label,
        "fp32 linear",
        compared.latency_us,
        compared.baseline_latency_us,
        compared.speedup,
        planes * planes * size * size / compared.latency_us.median / 1e3,
        "GMAC/s",
        None,
        TARGETS[planes] if quantizing else None,
    )
