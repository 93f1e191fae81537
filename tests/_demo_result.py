# SPDX-License-Identifier: Apache-2.0
"""A made-up result of the demo, for tests of what is done with one."""

from __future__ import annotations

import math
from dataclasses import replace

from bittern import binary
from bittern.bench.core.machine import Machine
from bittern.bench.core.timing import Spread
from bittern.bench.demo.result import FLOAT, DemoResult, Half, Latency, OptimizerRow, Row, Settings

MACHINE = Machine(
    cpu='A <b>"CPU"</b> & more',
    cores=2,
    features=("avx2",),
    isa="avx2",
    threads=1,
    device="cpu",
    system="Linux x86_64",
    python="3.11.0",
    torch="2.13.0",
    bittern="0.1.0",
)


def sample() -> DemoResult:
    """Nine methods, all exact, with accuracies that tie and nearly tie."""
    rows = [_row(FLOAT, 0, 1_044_784)]
    rows += [_row(method.__name__, i, 46_000 + 300 * i) for i, method in enumerate(binary.COMPARED, 1)]
    return DemoResult(
        rows=tuple(rows),
        optimizers=tuple(_optimizer(bits) for bits in (32, 8, 4)),
        settings=Settings(),
        network="a network",
        data="digits",
        train_images=1438,
        test_images=359,
        machine=MACHINE,
        command="bittern demo --out 'a <folder>'",
        started="2026-01-02T03:04:05+00:00",
        seconds=91.2,
    )


def with_wrong_row(result: DemoResult, name: str) -> DemoResult:
    """The same, with one method that is not exact."""
    rows = tuple(replace(row, exact=False, different=3) if row.name == name else row for row in result.rows)
    return replace(result, rows=rows)


def _optimizer(bits: int) -> OptimizerRow:
    step, fused = Spread(900.0, 800.0, 999.0), Spread(800.0, 790.0, 990.0)
    losses = tuple(3.0 * math.exp(-i / 30) + 0.2 for i in range(60))
    return OptimizerRow(bits, bits / 4, step, fused, Spread(0.9, 0.8, 1.1), losses)


def _row(name: str, i: int, size: int) -> Row:
    packed = Spread(500.0 + 40 * i, 480.0, 900.0)
    latencies = tuple(_latency(batch, packed.scaled(batch**0.5)) for batch in (1, 32))
    return Row(
        name=name,
        accuracy=(0.9916, 0.9777, 0.9777, 0.9833, 0.9861, 0.9916, 0.9833, 0.9861, 0.9889, 0.9777)[i],
        stored_bytes=size,
        binary_bytes=1_032_192 if name == FLOAT else 1_032_192 // 32,
        accumulators=0 if name == FLOAT else 1_000_000,
        different=0,
        logits_identical=True,
        max_difference=0.0,
        exact=True,
        latencies=() if name == FLOAT else latencies,
        losses=tuple(2.3 * math.exp(-step / (12 + i)) + 0.01 for step in range(88)),
        accuracies=(0.9, 0.95, 0.97, 0.98),
        seconds=6.0,
    )


def noisy(result: DemoResult) -> DemoResult:
    """The same, whose repeated timings differ by a quarter."""
    rows = (
        replace(row, latencies=tuple(replace(one, repeated=(1.2, 1.5)) for one in row.latencies)) for row in result.rows
    )
    return replace(result, rows=tuple(rows))


def _latency(batch: int, packed: Spread) -> Latency:
    return Latency(
        batch=batch,
        packed_us=packed,
        packed_half_us=Half(packed.median * 0.97, packed.median * 1.05),
        float_us=Spread(800.0, 790.0, 990.0),
        float_half_us=Half(795.0, 830.0),
        layout="contiguous",
        speedup=Spread(1.5, 1.2, 1.7),
        repeated=(1.5, 1.48, 1.52),
    )
