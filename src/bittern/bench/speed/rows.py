# SPDX-License-Identifier: Apache-2.0
"""Comparisons of packed networks with other engines, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bittern.bench.core.timing import Spread
from bittern.nn._table import text_table

ITSELF = "itself"
"""In place of a float network: the packed one, run in another way."""
US_PER_MS = 1e3


@dataclass(frozen=True, slots=True)
class SpeedRow:
    """One comparison of a packed network with another engine on a float network."""

    network: str
    twin: str
    peer: str
    threads: int
    latency_us: Spread
    peer_latency_us: Spread
    ratio: Spread
    target: float | None
    """Least ratio that the project wants; None: no target for this row."""


def reached(value: float, target: float | None) -> tuple[str, str]:
    """Cells of a least value and of whether it is reached."""
    if target is None:
        return "", ""
    return f">= {target:g}", "yes" if value >= target else "NO"


def speed_table(rows: Sequence[SpeedRow]) -> str:
    """One line per comparison."""
    header = ("packed", "threads", "ms", "against", "float network", "ms", "ratio", "(min - max)", "target", "reached")
    lines: list[tuple[str, ...]] = []
    before: SpeedRow | None = None
    for row in rows:
        if before is not None and (row.network, row.twin, row.threads) != (before.network, before.twin, before.threads):
            lines.append(())
        before = row
        lines.append(
            (
                row.network,
                str(row.threads),
                f"{row.latency_us.median / US_PER_MS:.2f}",
                row.peer,
                row.twin,
                f"{row.peer_latency_us.median / US_PER_MS:.2f}",
                f"{row.ratio.median:.2f}",
                f"({row.ratio.min:.2f} - {row.ratio.max:.2f})",
                *reached(row.ratio.median, row.target),
            )
        )
    return text_table(header, lines, right=(1, 2, 5, 6, 7))
