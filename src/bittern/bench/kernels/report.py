# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench ops` measured: the rows, and the tables that show them."""

from __future__ import annotations

from dataclasses import dataclass

from bittern.bench.core.machine import Machine
from bittern.bench.core.rows import Figure, OpRow, figures_table, rows_table
from bittern.bench.core.store import to_json
from bittern.bench.core.timing import Spread


@dataclass(frozen=True, slots=True)
class Peak:
    """Rate of one instruction set when only arithmetic limits it."""

    isa: str
    in_cache_gmac_s: Spread


@dataclass(frozen=True, repr=False, slots=True)
class OpsReport:
    """Everything measured by one run; `print(report)` shows tables."""

    machine: Machine
    copy_gb_s: Spread
    """Bytes read plus bytes written."""
    fp32_gmac_s: Spread
    peaks: tuple[Peak, ...]
    rows: tuple[OpRow, ...]
    figures: tuple[Figure, ...]

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        peaks = ", ".join(f"{p.isa} {p.in_cache_gmac_s.max:,.0f}" for p in self.peaks)
        parts = [
            str(self.machine),
            f"copy {self.copy_gb_s.median:.1f} GB/s moved; fp32 matmul {self.fp32_gmac_s.median:,.0f} GMAC/s; "
            f"binary in cache, at best, GMAC/s: {peaks}",
            rows_table(self.rows),
            "ratio: torch's time / bittern's, pair by pair, median (min - max); pack_signs: share of copy bandwidth. "
            "of peak: share of the best in-cache rate, or of copy bandwidth.",
            figures_table(self.figures),
        ]
        return "\n\n".join(parts)

    __repr__ = __str__
