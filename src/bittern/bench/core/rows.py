# SPDX-License-Identifier: Apache-2.0
"""Comparisons with a peer and figures with a limit, and the tables that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bittern.bench.core.timing import Spread
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
    None for groups and `multibit_matvec`, whose kernels count in another way than what the rate was measured with."""
    target: float | None
    """Least ratio that the project wants; None: no target for this row."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value that is no ratio of times, and the most that the project allows."""

    subject: str
    value: float
    unit: str
    at_most: float


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
