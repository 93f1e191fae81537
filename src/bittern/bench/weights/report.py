# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench weights` measured, as tables and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from bittern.bench.core.machine import Machine
from bittern.bench.core.rows import figures_table, rows_table
from bittern.bench.core.store import to_json
from bittern.bench.core.words import plural
from bittern.bench.weights.case import STEP, CaseRun, Line
from bittern.bench.weights.codecs import CodecRun
from bittern.nn._table import text_table

LEGEND = """Everything in a table is timed in turn in one process: one pass through a stack of layers, each with weights
of its own, one behind the other. In front of every pass other memory is read, more than all caches hold, so weights
come from memory. bits: stored per weight, scales included. MB: weights of the stack. us: of a layer, median. of roof:
time that the machine needs for the bytes (memory) or the products over the measured one; bandwidth and rates are in
the line above the table, measured in the same rounds. Numbered columns: time of the peer of that number / the row's,
round by round, median; above 1 bittern is faster. nearest: the lowest of them, with its range. torch's float layers get
inputs of their own type. ONNX Runtime, OpenVINO, ggml and torch int8 run forward passes of float32 inputs alone."""
FIRST_RATIO = 9
"""Column."""


@dataclass(frozen=True, repr=False, slots=True)
class WeightsReport:
    """Everything measured by one run; `print(report)` shows tables."""

    command: str
    machine: Machine
    swept_bytes: int
    """Read in front of every sample."""
    budget_s: float
    missing: tuple[str, ...]
    """Who does not run here, and why."""
    runs: tuple[CaseRun | CodecRun, ...]

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        return "\n\n".join([*self._head(), *(f"{title}\n\n{table}" for title, table in self._tables())])

    __repr__ = __str__

    def page(self) -> str:
        """Markdown."""
        parts = ["# Weights of 2 to 8 bits", f"Command: `{self.command}`", *self._head()]
        parts += [f"## {title}\n\n```\n{table}\n```" for title, table in self._tables()]
        return "\n\n".join(parts) + "\n"

    def _head(self) -> list[str]:
        swept = f"{self.swept_bytes / 1e6:,.0f} MB are read in front of every pass; {self.budget_s:g} s for each row."
        missing = "\n".join(f"- left out: {text}" for text in self._left_out())
        return [part for part in (str(self.machine), LEGEND, swept, missing) if part]

    def _left_out(self) -> list[str]:
        failed = [text for run in self.runs if isinstance(run, CaseRun) for text in run.failed]
        return list(dict.fromkeys((*self.missing, *failed)))

    def _tables(self) -> Iterator[tuple[str, str]]:
        cases = [run for run in self.runs if isinstance(run, CaseRun)]
        for (shape, inputs, work, threads), group in groupby(cases, _table_of):
            named = "forward and back" if work == STEP else work
            yield f"{shape}, {inputs} inputs, {named}, {plural(threads, 'thread')}", _cases(list(group))
        for run in self.runs:
            if isinstance(run, CodecRun):
                tables = f"{rows_table(run.codecs)}\n\n{figures_table(run.figures)}"
                yield f"Block codecs, {plural(run.threads, 'thread')}", tables


def _table_of(run: CaseRun) -> tuple[str, str, str, int]:
    return run.shape, run.inputs, run.work, run.threads


def _cases(runs: Sequence[CaseRun]) -> str:
    """One table: a block of rows for each batch."""
    peers = list(dict.fromkeys(line.name for run in runs for line in run.lines if not line.ours))
    numbers = {peer: str(i + 1) for i, peer in enumerate(peers)}
    header = (
        "batch",
        "layers",
        "",
        "weights",
        "bits",
        "MB",
        "us",
        "of roof",
        "",
        *numbers.values(),
        "nearest",
        "(min - max)",
    )
    rows: list[tuple[str, ...]] = []
    for run in runs:
        rows += [()] if rows else []
        rows += [_row(run, line, numbers) for line in run.lines]
    roofs = "\n".join(
        f"batch {run.batch}: memory {run.memory_gb_s:.1f} GB/s; products {run.float_gmac_s:,.0f} GMAC/s of floats, "
        f"{run.int8_gmac_s:,.0f} of int8"
        for run in runs
    )
    right = (0, 1, 2, 4, 5, 6, 7, *range(FIRST_RATIO, FIRST_RATIO + len(peers)))
    return f"{roofs}\n\n{text_table(header, rows, right=right)}"


def _row(run: CaseRun, line: Line, numbers: Mapping[str, str]) -> tuple[str, ...]:
    """numbers: of the peers, by name."""
    ratios = {r.peer: r.ratio for r in line.ratios}
    nearest = min(line.ratios, key=lambda r: r.ratio.median, default=None)
    return (
        str(run.batch),
        str(run.layers),
        numbers.get(line.name, ""),
        line.name,
        f"{8 * line.weight_bytes / run.weights:.2f}",
        f"{line.weight_bytes / 1e6:,.1f}",
        f"{line.latency_us.median / run.layers:,.0f}",
        f"{line.of_roof:.0%}",
        line.limit,
        *(f"{ratios[peer].median:.2f}" if peer in ratios else "" for peer in numbers),
        "" if nearest is None else f"{nearest.ratio.median:.2f} {nearest.peer}",
        "" if nearest is None else f"({nearest.ratio.min:.2f} - {nearest.ratio.max:.2f})",
    )
