# SPDX-License-Identifier: Apache-2.0
"""`bittern bench optim`: one step of each optimizer against torch's fused one, in turn in one process.

What is counted. A row is one `step()` of all parameters with gradients of their type; the baseline, torch's fused step
of the same rule where it has one and of AdamW elsewhere, has tensors of its own. The roof is memory: a step reads the
gradient (4 bytes), reads and writes the parameter (8), and reads and writes the states; 8 bits are 1 byte and 4/256 of
an absmax. "B" in a row are these bytes per parameter, "of peak" is the time for them over the measured one, at the
best bandwidth of `b += a` (12 bytes per element) and of torch's fused float32 AdamW (28), the kinds of traffic
that a step is. Tensors that fit in a cache can exceed it.

Peers other than torch take part where they are installed (`pip install 'bittern[bench]'`). torchao compiles its step by
the first call, half a minute and more for a model and again for every new shape: that is not in its row.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from bittern.bench.core.machine import FLOAT_BYTES, this_machine
from bittern.bench.core.rows import Figure, OpRow
from bittern.bench.core.timing import Comparison, Spread, check_budget, compare, latency, torch_threads
from bittern.bench.optim.candidates import ADAM_BYTES_TARGET, Candidate, fused_adamw, halves, ours, peers
from bittern.bench.optim.report import Bandwidth, OptimReport
from bittern.ops import chosen_isa

ONE = 24_999_936
"""Elements of the single tensor: 25 M, a multiple of every block size."""
PIECES = 160
SMALL = (100_000, 1_000_000)
"""Elements of the single tensors that a cache holds."""
TRANSIENT_TARGET = 64 * 1024
"""Bytes of temporary memory in a step: a few KB per thread, and the resolution of the page counter."""

Shapes = tuple[tuple[int, ...], ...]


def resnet50_shapes() -> Shapes:
    """The 161 parameters of ResNet-50 for 1000 classes (arXiv:1512.03385)."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    channels = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            convs = [(width, channels, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            if block == 0:
                convs.append((4 * width, channels, 1, 1))
            for conv in convs:
                shapes += [conv, (conv[0],), (conv[0],)]
            channels = 4 * width
    return (*shapes, (1000, 2048), (1000,))


def gpt2_small_shapes() -> Shapes:
    """The 148 parameters of GPT-2 small (124 M), output tied to the embedding."""
    shapes: list[tuple[int, ...]] = [(50257, 768), (1024, 768)]
    for _ in range(12):
        shapes += [(768,), (768,), (768, 2304), (2304,), (768, 768), (768,)]
        shapes += [(768,), (768,), (768, 3072), (3072,), (3072, 768), (768,)]
    return (*shapes, (768,), (768,))


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sets of tensors. The targets hold for the defaults; smaller ones only show that everything runs."""

    one: int = ONE
    pieces: int = PIECES
    small: tuple[int, ...] = SMALL
    models: tuple[tuple[str, Shapes], ...] = (
        ("ResNet-50's 161 tensors", resnet50_shapes()),
        ("GPT-2 small's 148 tensors", gpt2_small_shapes()),
    )


def run(
    threads: Sequence[int] = (1, 2),
    *,
    budget_s: float = 2.0,
    sizes: Sizes = Sizes(),
    with_peers: bool = True,
    on_row: Callable[[str], None] | None = None,
) -> OptimReport:
    """Measure everything on the CPU, about `budget_s` seconds for each row.

    threads: each row is measured with each of these numbers of threads.

    Raises: ValueError for less than one thread or a budget that is not positive.
    """
    check_budget(budget_s)
    tell = on_row if on_row is not None else lambda subject: None
    rows: list[OpRow] = []
    bandwidths: list[Bandwidth] = []
    for count in threads:
        with torch_threads(count):
            tell(f"bandwidth, {count} threads")
            bandwidth = update_bandwidth_gb_s(sizes.one)
            bandwidths.append(Bandwidth(count, bandwidth))
            for subject, candidate, shapes in _measurements(sizes, with_peers):
                tell(f"{subject}, {count} threads")
                rows.append(_row(subject, candidate, shapes, count, bandwidth, budget_s))
    figures: list[Figure] = []
    for candidate in ours():
        tell(f"memory of {candidate.name}")
        figures += _memory(candidate, sizes.one)
    with torch_threads(max(threads)):
        machine = this_machine()
    return OptimReport(machine, tuple(bandwidths), tuple(rows), tuple(figures))


def _measurements(sizes: Sizes, with_peers: bool) -> Iterator[tuple[str, Candidate, Shapes]]:
    one: Shapes = ((sizes.one,),)
    for candidate in (*ours(), *halves(), *(peers() if with_peers else ())):
        yield f"{candidate.name}: one tensor, {sizes.one:,}", candidate, one
    adamw, adamw4 = ours()[:2]
    for candidate in (adamw, adamw4, halves()[0]):
        for elements in sizes.small:
            yield f"{candidate.name}: one tensor, {elements:,}", candidate, ((elements,),)
    yield f"{adamw.name}: {sizes.pieces} tensors, together {sizes.one:,}", adamw, split(sizes.one, sizes.pieces)
    for name, shapes in sizes.models:
        yield f"{adamw.name}: {name}", adamw, shapes


def split(total: int, pieces: int) -> Shapes:
    """`pieces` one-dimensional shapes that differ by one at most."""
    return tuple((total // pieces + (i < total % pieces),) for i in range(pieces))


def parameters(shapes: Shapes, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Random parameters with random gradients; device None: the CPU."""
    params = [torch.randn(shape, device=device).to(dtype).requires_grad_() for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def update_bandwidth_gb_s(elements: int) -> Spread:
    """1e9 bytes per second, the better of two: `b += a`, three floats per element, and a fused AdamW step, seven."""
    a, b = torch.ones(elements), torch.zeros(elements)
    fused = fused_adamw(parameters(((elements,),)))
    found = []
    for call, floats in ((lambda: b.add_(a), 3), (fused.step, 7)):
        time_us = latency(call)
        moved = floats * FLOAT_BYTES * elements
        found.append(Spread(*(moved / t / 1e3 for t in (time_us.median, time_us.max, time_us.min))))
    return max(found, key=lambda rate: rate.max)


def _row(subject: str, candidate: Candidate, shapes: Shapes, threads: int, bandwidth: Spread, budget_s: float) -> OpRow:
    mine = candidate.make(parameters(shapes, dtype=candidate.dtype))
    theirs = candidate.peer.make(parameters(shapes, dtype=candidate.dtype))
    compared: Comparison = compare(mine.step, theirs.step, budget_s=budget_s)
    count = sum(prod(shape) for shape in shapes)
    moved = None if candidate.bytes_per_param is None else candidate.bytes_per_param * count
    rate = None if moved is None else moved / compared.latency_us.median / 1e3
    counted = "" if candidate.bytes_per_param is None else f", {candidate.bytes_per_param:.1f} B"
    return OpRow(
        f"{subject}{counted}, {threads} thread{'s' if threads > 1 else ''}",
        chosen_isa().label if moved is not None else "",
        candidate.peer.name,
        compared.latency_us,
        compared.baseline_latency_us,
        compared.speedup,
        rate,
        "GB/s moved" if moved is not None else "",
        None if rate is None else rate / bandwidth.max,
        1.0 if candidate.state_bytes_target == ADAM_BYTES_TARGET and count not in SMALL else None,
    )


def _memory(candidate: Candidate, elements: int) -> Iterator[Figure]:
    """State bytes per parameter, and what a step allocates beyond them."""
    params = parameters(((elements,),))
    optimizer = candidate.make(params)
    optimizer.step()
    if candidate.state_bytes_target is not None:
        yield Figure(
            f"{candidate.name}: state", state_bytes(optimizer) / elements, "bytes/param", candidate.state_bytes_target
        )
        transient = transient_bytes(optimizer.step)
        if transient is not None:
            yield Figure(f"{candidate.name}: temporary memory", transient, "bytes", TRANSIENT_TARGET)


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all states; counters, which have one element, do not count."""
    states = (x for state in optimizer.state.values() for x in state.values())
    return sum(x.numel() * x.element_size() for x in states if isinstance(x, Tensor) and x.numel() > 1)


def transient_bytes(f: Callable[[], object]) -> int | None:
    """How far resident memory rises above its start while `f` runs, or None where the system does not tell (Linux)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    _release_free_memory()
    try:
        reset.write_text("5")  # the peak starts anew from what is resident now
        before = _status_bytes(status, "VmHWM")
        f()
        return max(0, _status_bytes(status, "VmHWM") - before)
    except OSError:
        return None


def _release_free_memory() -> None:
    """Give freed memory back to the system (glibc keeps it resident, and what takes it again would not show)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _status_bytes(status: Path, key: str) -> int:
    for line in status.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    raise OSError(f"{status}: has no {key}")
