# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench train` measured, as tables and as a page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bittern.bench.core.machine import Machine
from bittern.bench.core.store import to_json
from bittern.bench.core.timing import Spread
from bittern.bench.core.words import plural
from bittern.nn._table import text_table

TWIN = "float twin"
LEGEND = """A step is forward, cross entropy and backward to all parameters, gradients made anew; no optimizer. The
methods and the float twin take turns in one process. The twin runs in the memory layout that is the faster one for it,
the methods in the same. ratio: the twin's time / the method's, round by round, median (min - max); above 1 the method
is faster. saved: bytes that the graph keeps for backward, each storage once, without parameters, buffers and the batch.
states: bytes of the optimizer's states, torch's AdamW for the twin and bittern's with 8 bits for the methods."""


@dataclass(frozen=True, slots=True)
class MethodStep:
    """A step with one method, or of the twin."""

    method: str
    latency_us: Spread
    ratio: Spread
    saved_bytes: int
    state_bytes: int


@dataclass(frozen=True, slots=True)
class NetworkSteps:
    """Steps of one network; the twin's is the first."""

    network: str
    batch: int
    layout: str
    """Of memory, for all of them."""
    threads: int
    steps: tuple[MethodStep, ...]

    @property
    def key(self) -> tuple[str, int]:
        return self.network, self.threads


@dataclass(frozen=True, repr=False, slots=True)
class TrainReport:
    """Everything measured by one run; `print(report)` shows tables."""

    command: str
    machine: Machine
    budget_s: float
    methods: tuple[str, ...]
    runs: tuple[NetworkSteps, ...]

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        return "\n\n".join([str(self.machine), LEGEND, *(f"{title}\n\n{table}" for title, table in self._tables())])

    __repr__ = __str__

    def page(self) -> str:
        """Markdown."""
        parts = ["# Training steps of binary networks", f"Command: `{self.command}`", str(self.machine), LEGEND]
        parts += [f"## {title}\n\n```\n{table}\n```" for title, table in self._tables()]
        return "\n\n".join(parts) + "\n"

    def _tables(self) -> Iterator[tuple[str, str]]:
        header = ("method", "ms", "ratio", "(min - max)", "saved MB", "of twin", "states MB", "of twin")
        for run in self.runs:
            twin = run.steps[0]
            rows = [
                (
                    step.method,
                    f"{step.latency_us.median / 1e3:,.1f}",
                    f"{step.ratio.median:.2f}",
                    f"({step.ratio.min:.2f} - {step.ratio.max:.2f})",
                    f"{step.saved_bytes / 1e6:,.1f}",
                    f"{step.saved_bytes / twin.saved_bytes:.2f}",
                    f"{step.state_bytes / 1e6:,.2f}",
                    f"{step.state_bytes / twin.state_bytes:.2f}",
                )
                for step in run.steps
            ]
            title = f"{run.network}, batch {run.batch}, {run.layout}, {plural(run.threads, 'thread')}"
            yield title, text_table(header, rows, right=(1, 2, 4, 5, 6, 7))
