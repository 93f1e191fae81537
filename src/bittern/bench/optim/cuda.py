# SPDX-License-Identifier: Apache-2.0
"""`bittern bench optim --device cuda`: a step on a GPU against torch's AdamW, bitsandbytes' and a plain copy.

What is counted. A row is one `step()` of all parameters, float32 with float32 gradients, until the device is done; both
sides have tensors of their own. Against "a copy of as many bytes" the ratio is the share of the copy bandwidth that a
step reaches: a copy of n bytes moves 2 n, a step what `optim.step_bytes` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import prod

import torch

from bittern.bench.core.machine import FLOAT_BYTES, this_machine
from bittern.bench.core.rows import OpRow
from bittern.bench.core.timing import Spread, check_budget, compare, latency
from bittern.bench.optim.candidates import Candidate, Make, fused_adamw, ours
from bittern.bench.optim.report import CudaOptimReport
from bittern.bench.optim.run import Shapes, gpt2_small_shapes, parameters, resnet50_shapes

ONE = 499_999_744
"""Elements of the single tensor: 500 M, a multiple of every block size of 1024 and less."""
COPY = "a copy of as many bytes"
SHARE_TARGET = 0.85
PEER = "bitsandbytes AdamW8bit"
PEER_TARGET = 5.0
"""For the many tensors of ResNet-50."""
COPY_ELEMENTS = 2**28


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sets of tensors. The targets hold for the defaults; smaller ones only show that everything runs."""

    one: int = ONE
    models: tuple[tuple[str, Shapes, float | None], ...] = (
        ("ResNet-50's 161 tensors", resnet50_shapes(), PEER_TARGET),
        ("GPT-2 small's 148 tensors", gpt2_small_shapes(), None),
    )
    """Name, shapes, and the least ratio to bitsandbytes that the project wants."""


def run(
    device: torch.device,
    *,
    budget_s: float = 2.0,
    sizes: Sizes = Sizes(),
    with_peers: bool = True,
    on_row: Callable[[str], None] | None = None,
) -> CudaOptimReport:
    """Measure everything on one device, about `budget_s` seconds for each row.

    Raises: ValueError for a budget that is not positive.
    """
    check_budget(budget_s)
    tell = on_row if on_row is not None else lambda subject: None
    copy = copy_gb_s(device, min(sizes.one, COPY_ELEMENTS))
    rows: list[OpRow] = []
    for row in _measurements(sizes, with_peers):
        tell(f"{row.subject} against {row.against}")
        rows.append(_measured(row, device, copy, budget_s))
    return CudaOptimReport(this_machine(device), copy, tuple(rows))


@dataclass(frozen=True, slots=True)
class _Row:
    subject: str
    candidate: Candidate
    shapes: Shapes
    against: str
    baseline: Make | None
    """None: a copy of as many bytes."""
    target: float | None


def _measurements(sizes: Sizes, with_peers: bool) -> Iterator[_Row]:
    adamw, *others = ours()
    one: Shapes = ((sizes.one,),)
    fused = "torch AdamW fused", fused_adamw
    subject = f"{adamw.name}: one tensor, {sizes.one:,}"
    yield _Row(subject, adamw, one, COPY, None, SHARE_TARGET)
    for against, baseline in (fused, *(_peers() if with_peers else ())):
        yield _Row(subject, adamw, one, against, baseline, None)
    for other in others:
        yield _Row(f"{other.name}: one tensor, {sizes.one:,}", other, one, *fused, None)
    for name, shapes, target in sizes.models:
        for against, baseline in (fused, *(_peers() if with_peers else ())):
            wanted = target if against == PEER else None
            yield _Row(f"{adamw.name}: {name}", adamw, shapes, against, baseline, wanted)


def _peers() -> Iterator[tuple[str, Make]]:
    """torch's foreach form, and bitsandbytes where it is installed."""
    yield "torch AdamW foreach", partial(torch.optim.AdamW, lr=1e-3, foreach=True)
    with suppress(ImportError):
        from bitsandbytes.optim import AdamW8bit

        yield PEER, partial(AdamW8bit, lr=1e-3)


def _measured(row: _Row, device: torch.device, copy: Spread, budget_s: float) -> OpRow:
    moved = (row.candidate.bytes_per_param or 0.0) * sum(prod(shape) for shape in row.shapes)
    step = row.candidate.make(parameters(row.shapes, device)).step
    if row.baseline is None:
        baseline = _copy(device, int(moved) // (2 * FLOAT_BYTES))
    else:
        baseline = row.baseline(parameters(row.shapes, device)).step
    compared = compare(_awaited(step, device), _awaited(baseline, device), budget_s=budget_s)
    rate = moved / compared.latency_us.median / 1e3
    return OpRow(
        row.subject,
        "triton" if device.type == "cuda" else "",
        row.against,
        compared.latency_us,
        compared.baseline_latency_us,
        compared.speedup,
        rate,
        "GB/s moved",
        rate / copy.max,
        row.target,
    )


def copy_gb_s(device: torch.device, elements: int) -> Spread:
    """Bytes read plus bytes written per second, in 1e9, of a copy of float32 numbers on a device."""
    time_us = latency(_awaited(_copy(device, elements), device))
    moved = 2 * FLOAT_BYTES * elements
    return Spread(*(moved / t / 1e3 for t in (time_us.median, time_us.max, time_us.min)))


def _copy(device: torch.device, elements: int) -> Callable[[], object]:
    source = torch.ones(elements, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _awaited(f: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """f, until the device is done with it."""
    if device.type != "cuda":
        return f

    def run() -> None:
        f()
        torch.cuda.synchronize(device)

    return run
