# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench ops` measured: the rows, and the tables that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bittern.bench.machine import Machine
from bittern.bench.store import to_json
from bittern.bench.timing import Spread
from bittern.nn._table import text_table


@dataclass(frozen=True, slots=True)
class OpRow:
    """One comparison with torch."""

    subject: str
    isa: str
    baseline: str
    """What torch did meanwhile."""
    latency_us: Spread
    baseline_latency_us: Spread
    ratio: Spread
    """Times faster than the baseline, pair by pair; of `pack_signs`: bytes moved per second over those of the copy."""
    rate: float | None
    """At the median latency, in `rate_unit`."""
    rate_unit: str
    """"GMAC/s" or "GB/s moved"; "" where a rate means nothing."""
    of_peak: float | None
    """Share of the best in-cache rate of this instruction set (MAC), or of the copy bandwidth (bytes).
    None for groups, whose kernels count in another way than what the rate was measured with."""
    target: float | None
    """Least ratio that the project wants; None: no target for this row."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value that is no ratio of times, and the most that the project allows."""

    subject: str
    value: float
    unit: str
    at_most: float


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


def rows_table(rows: Sequence[OpRow]) -> str:
    """One line per comparison."""
    header = ("subject", "isa", "us", "against", "us", "ratio", "(min - max)", "rate", "of peak", "target", "reached")
    lines = []
    for row in rows:
        lines.append(
            (
                row.subject,
                row.isa,
                f"{row.latency_us.median:,.0f}",
                row.baseline,
                f"{row.baseline_latency_us.median:,.0f}",
                f"{row.ratio.median:.2f}",
                f"({row.ratio.min:.2f} - {row.ratio.max:.2f})",
                "" if row.rate is None else f"{row.rate:,.1f} {row.rate_unit}",
                "" if row.of_peak is None else f"{row.of_peak:.0%}",
                "" if row.target is None else f">= {row.target:g}",
                "" if row.target is None else "yes" if row.ratio.median >= row.target else "NO",
            )
        )
    return text_table(header, lines, right=(2, 4, 5, 7, 8))


def figures_table(figures: Sequence[Figure]) -> str:
    """One line per figure, and whether it keeps to its limit."""
    lines = [
        (f.subject, f"{f.value:,.{0 if f.unit == 'bytes' else 3}f} {f.unit}", f"<= {f.at_most:,g} {f.unit}",
         "yes" if f.value <= f.at_most else "NO")
        for f in figures
    ]  # fmt: skip
    return text_table(("figure", "measured", "target", "reached"), lines, right=(1,))
