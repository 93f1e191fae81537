# SPDX-License-Identifier: Apache-2.0
"""`bittern bench weights`: linear layers of 2 to 8 bits and block codecs, against torch and other libraries.

What is counted. A row is one pass through a stack of linear layers without bias: with one input 24 square ones, or as
many others as have that many weights; with more inputs so much fewer, one at least. Each layer has weights of its own,
and in front of each pass memory beyond every cache is read, so weights come from memory, as they do when a model
generates text. All contenders take turns, and ratios are formed round by round. What a library sets up beforehand
(quantization, layout, compilation) is not timed. Inputs and weights are normal.

Peers take part where they are installed (`pip install 'bittern[bench]'`); who is missing is named in the report.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from bittern.bench.core.machine import this_machine
from bittern.bench.core.runner import Trial, run_trials
from bittern.bench.core.timing import check_budget, torch_threads
from bittern.bench.weights import case as cases
from bittern.bench.weights import codecs
from bittern.bench.weights.case import FORWARD, STEP, Case, CaseRun, Field
from bittern.bench.weights.codecs import CodecRun
from bittern.bench.weights.contender import Contender
from bittern.bench.weights.formats import DEFAULT, FORMATS
from bittern.bench.weights.peers import PEERS
from bittern.bench.weights.report import WeightsReport
from bittern.bench.weights.roof import SIDE, Sweep, sweep_bytes
from bittern.bench.weights.shapes import LAYERS, SIZE, Shape, square

BATCHES = (1, 4, 8, 32, 128, 512)
ELEMENTS = 4096 * 4096
"""Of the tensor that block codecs are timed on."""
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is measured. The defaults are a run of about six minutes on one core."""

    batches: tuple[int, ...] = BATCHES
    shapes: tuple[Shape, ...] = (square(SIZE),)
    types: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)
    works: tuple[str, ...] = (FORWARD, STEP)
    formats: tuple[Contender, ...] = tuple(f for f in FORMATS if f.name in DEFAULT)
    peers: tuple[Contender, ...] = PEERS
    size: int = SIZE
    layers: int = LAYERS
    """Square layers of `size` in a pass with one input."""
    elements: int = ELEMENTS
    """Of block codecs; 0: they are left out."""
    side: int = SIDE
    """Of the matrices that are multiplied for the roof."""
    swept: int | None = None
    """Bytes read in front of each pass; None: more than this machine's caches hold."""

    def __post_init__(self) -> None:
        for name in ("batches", "shapes", "types", "works", "formats"):
            if not getattr(self, name):
                raise ValueError(f"bench weights: {name} must name at least one; got none")
        for name, low in (("size", 1), ("layers", 1), ("side", 1), ("elements", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"bench weights: {name} must be at least {low}; got {getattr(self, name)}")
        if min(self.batches) < 1:
            raise ValueError(f"bench weights: batches must be at least 1; got {min(self.batches)}")


def run(
    threads: Sequence[int] = (1,),
    *,
    command: str,
    budget_s: float = 0.8,
    choice: Choice = Choice(),
    out: Path | None = None,
    on_row: Tell | None = None,
) -> WeightsReport:
    """Measure on the CPU, about `budget_s` seconds for each row.

    threads: everything is measured with each of these numbers. command: what the report names as its origin. out:
    JSON, written with its page after each table; a later call goes on. on_row: told what is measured next.

    Raises: ValueError for less than one thread, a budget that is not positive, or an `out` of another run; OSError.
    """
    check_budget(budget_s)
    here = [p for p in choice.peers if p.missing() is None]
    missing = [f"{p.name}: {reason}" for p in choice.peers if (reason := p.missing()) is not None]
    tell = on_row if on_row is not None else lambda subject: None
    sweep = Sweep(sweep_bytes() if choice.swept is None else choice.swept)
    with torch_threads(max(threads)):
        fresh = WeightsReport(command, this_machine(), sweep.size, budget_s, tuple(missing), ())
    contenders = Field(choice.formats, here, choice.size, choice.layers)
    trials = list(_trials(threads, choice, contenders, sweep, budget_s, tell))
    return run_trials("bench weights", out, fresh, trials, _key)


def _trials(
    threads: Sequence[int], choice: Choice, contenders: Field, sweep: Sweep, budget_s: float, tell: Tell
) -> Iterator[Trial[CaseRun | CodecRun]]:
    """In the order of the tables: those of a shape stand together, because setting it up takes long."""
    for shape in choice.shapes:
        for dtype in choice.types:
            for work in choice.works:
                for count in threads:
                    for batch in choice.batches:
                        case = Case(shape, dtype, work, batch, count)
                        call = partial(_case, case, contenders, sweep, budget_s, choice.side, tell)
                        yield Trial(case.key, call)
    if choice.elements:
        for count in threads:
            yield Trial(count, partial(_codecs, count, choice.elements, budget_s, tell))


def _case(case: Case, contenders: Field, sweep: Sweep, budget_s: float, side: int, tell: Tell) -> CaseRun:
    tell(str(case))
    with torch_threads(case.threads):
        return cases.measure(case, contenders, sweep, budget_s=budget_s, side=side)


def _codecs(threads: int, elements: int, budget_s: float, tell: Tell) -> CodecRun:
    tell(f"block codecs, {threads} thread(s)")
    with torch_threads(threads):
        return codecs.measure(elements, budget_s)


def _key(run: CaseRun | CodecRun) -> Hashable:
    return run.key if isinstance(run, CaseRun) else run.threads
