# SPDX-License-Identifier: Apache-2.0
"""One measurement: everything that runs on one shape, batch, type of input and number of threads, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from bittern.bench.core.timing import Clock, Spread, take_turns
from bittern.bench.weights.contender import Contender, Pass, Ready
from bittern.bench.weights.roof import Roof, Sweep, float_product, int8_product
from bittern.bench.weights.shapes import Shape, inputs

FORWARD, STEP = "forward", "step"
WORKS = (FORWARD, STEP)
"""A product; a product and the gradient back to its input."""


class Case(NamedTuple):
    """What is measured together."""

    shape: Shape
    dtype: torch.dtype
    work: str
    batch: int
    threads: int

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        return str(self.shape), short(self.dtype), self.work, self.batch, self.threads

    def __str__(self) -> str:
        return f"{self.shape}, {short(self.dtype)}, {self.work}, batch {self.batch}, {self.threads} thread(s)"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Times that a peer takes as long, round by round."""

    peer: str
    ratio: Spread


@dataclass(frozen=True, slots=True)
class Line:
    """What one contender takes for a pass."""

    name: str
    ours: bool
    weight_bytes: int
    latency_us: Spread
    roof_us: float
    """What the machine needs at least: for the bytes, or for the products."""
    limit: str
    """Which of both is more."""
    ratios: tuple[Ratio, ...]
    """Of ours, to every peer."""

    @property
    def of_roof(self) -> float:
        return self.roof_us / self.latency_us.median


@dataclass(frozen=True, slots=True)
class CaseRun:
    """What a case gave."""

    shape: str
    inputs: str
    work: str
    batch: int
    threads: int
    layers: int
    """In a pass, each with weights of its own."""
    weights: int
    """Of all of them."""
    memory_gb_s: float
    float_gmac_s: float
    int8_gmac_s: float
    lines: tuple[Line, ...]
    failed: tuple[str, ...]
    """Who could not run this case, and why."""

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        return self.shape, self.inputs, self.work, self.batch, self.threads


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


class Field:
    """The contenders, set up once for each shape."""

    def __init__(self, formats: Sequence[Contender], peers: Sequence[Contender], size: int, layers: int) -> None:
        self.formats, self.peers = formats, peers
        self._size, self._layers = size, layers
        self._shape: Shape | None = None
        self._linears: list[nn.Linear] = []
        self._ready: dict[str, Ready] = {}

    def repeats(self, shape: Shape, batch: int) -> int:
        return shape.repeats(self._size, self._layers, batch)

    def passes(self, case: Case) -> tuple[dict[str, Pass], list[str]]:
        """(by name, who could not) for all that fit the case."""
        found: dict[str, Pass] = {}
        failed: list[str] = []
        x, repeats = inputs(case.shape, case.batch, case.dtype), self.repeats(case.shape, case.batch)
        for contender in (*self.formats, *self.peers):
            if not contender.fits(case.dtype, case.work == STEP):
                continue
            try:
                made = self._ready_for(case.shape, contender)(repeats, x, case.work == STEP)
                made.call()
            except Exception as error:  # whatever another library raises: it is left out, and the report says why
                if contender in self.formats and contender.takes(self._linears):
                    raise
                said = (str(error).splitlines() or [""])[0]
                failed.append(f"{contender.name} on {case.shape}: {type(error).__name__}: {said}")
                continue
            found[contender.name] = made
        return found, failed

    def _ready_for(self, shape: Shape, contender: Contender) -> Ready:
        if shape != self._shape:
            self._shape, self._linears, self._ready = shape, shape.linears(), {}
        if contender.name not in self._ready:
            self._ready[contender.name] = contender.prepare(self._linears)
        return self._ready[contender.name]


def measure(
    case: Case, field: Field, sweep: Sweep, *, budget_s: float, side: int, clock: Clock = time.perf_counter_ns
) -> CaseRun:
    """About `budget_s` seconds for each contender; side: of the matrices whose product is the roof.

    In front of every sample memory is swept, so every weight comes from memory.
    """
    passes, failed = field.passes(case)
    sweep.us.clear()
    product, faster = int8_product(side)
    calls: list[Callable[[], object]] = [
        *(made.call for made in passes.values()), float_product(side, case.dtype), product
    ]  # fmt: skip
    *samples, floats, integers = take_turns(calls, budget_s=budget_s, before=sweep, clock=clock)
    macs = side**3
    roof = Roof(sweep.gb_s(), macs / min(floats) / 1e3, faster * macs / min(integers) / 1e3)
    found = dict(zip(passes, samples, strict=True))
    repeats = field.repeats(case.shape, case.batch)
    lines = tuple(_line(contender, case, field, passes, found, roof) for contender in _in(field, passes))
    return CaseRun(
        *case.key,
        repeats * len(case.shape.sizes),
        repeats * case.shape.weights,
        *roof,
        lines,
        tuple(failed),
    )


def _in(field: Field, passes: Mapping[str, Pass]) -> list[Contender]:
    return [c for c in (*field.formats, *field.peers) if c.name in passes]


def _line(
    contender: Contender,
    case: Case,
    field: Field,
    passes: Mapping[str, Pass],
    samples: Mapping[str, Sequence[float]],
    roof: Roof,
) -> Line:
    mine, ours = samples[contender.name], contender in field.formats
    size = passes[contender.name].weight_bytes
    roof_us, limit = _roof(contender, case, field.repeats(case.shape, case.batch), size, roof)
    ratios = [
        # the slower of two has fewer samples, those of the first rounds
        Ratio(peer.name, Spread.of([b / a for a, b in zip(mine, samples[peer.name], strict=False)]))
        for peer in field.peers
        if ours and peer.name in samples
    ]
    return Line(contender.name, ours, size, Spread.of(mine), roof_us, limit, tuple(ratios))


def _roof(contender: Contender, case: Case, repeats: int, weight_bytes: int, roof: Roof) -> tuple[float, str]:
    """A step reads weights and values twice, and multiplies once more, by gradients, which nobody rounds to 8 bits."""
    again = 2 if case.work == STEP else 1
    values = case.batch * repeats * case.shape.moved_values() * case.dtype.itemsize
    macs = case.batch * repeats * case.shape.weights
    int8_macs = macs if contender.int8 else 0
    return roof.of(again * (weight_bytes + values), again * macs - int8_macs, int8_macs)
