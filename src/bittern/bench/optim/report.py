# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench optim` measured: the rows, and the tables that show them."""

from __future__ import annotations

from dataclasses import dataclass

from bittern.bench.core.machine import Machine
from bittern.bench.core.rows import Figure, OpRow, figures_table, rows_table
from bittern.bench.core.store import to_json
from bittern.bench.core.timing import Spread


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """1e9 bytes per second with a number of threads, by the better of `b += a` and a fused AdamW step."""

    threads: int
    gb_s: Spread


@dataclass(frozen=True, repr=False, slots=True)
class OptimReport:
    """Everything measured by one run; `print(report)` shows tables."""

    machine: Machine
    bandwidths: tuple[Bandwidth, ...]
    rows: tuple[OpRow, ...]
    figures: tuple[Figure, ...]

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        bandwidths = ", ".join(f"{b.gb_s.max:.1f} with {b.threads} thread(s)" for b in self.bandwidths)
        parts = [
            str(self.machine),
            f"memory bandwidth at best (b += a, or torch's fused AdamW), GB/s: {bandwidths}",
            rows_table(self.rows),
            "ratio: time of torch's fused step / this step's, pair by pair, median (min - max). B: bytes per parameter "
            "that the step must move. of peak: share of the bandwidth above, counting those.",
            figures_table(self.figures),
        ]
        return "\n\n".join(parts)

    __repr__ = __str__


@dataclass(frozen=True, repr=False, slots=True)
class CudaOptimReport:
    """Everything measured by one run on a GPU; `print(report)` shows a table."""

    machine: Machine
    copy_gb_s: Spread
    """Bytes read plus bytes written."""
    rows: tuple[OpRow, ...]

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        parts = [
            str(self.machine),
            f"copy {self.copy_gb_s.max:,.0f} GB/s moved",
            rows_table(self.rows),
            "ratio: the other's time / this step's, pair by pair, median (min - max). of peak: share of the copy "
            "bandwidth, counting the bytes that the step must move.",
        ]
        return "\n\n".join(parts)

    __repr__ = __str__
