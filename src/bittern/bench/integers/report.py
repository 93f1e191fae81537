# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench integers` measured: the rows, and the tables and sentences that show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bittern.bench.core.machine import Machine
from bittern.bench.core.store import to_json
from bittern.bench.integers.others.run import JUDGED_LEGEND, Judged, judged_table, kept_in_float
from bittern.bench.integers.rows import Quality, quality_table
from bittern.bench.speed.rows import FAILED, US_PER_MS, Failure, SpeedRow, speed_table

LEGEND = (
    "ratio: the other engine's time / bittern's, pair by pair, median (min - max); above 1 bittern is faster. Each row "
    "is a measurement of its own. Networks of random weights are calibrated on noise, by bittern and by the others."
)
QUALITY_LEGEND = (
    "SNR: the float network's answers over their error; same answer: of the largest one; both on the test part, or on "
    "noise where weights are random, which says little of trained ones. in float: steps that have no integers."
)


@dataclass(frozen=True, repr=False, slots=True)
class IntegersReport:
    """Everything measured by one run; `print(report)` shows tables."""

    command: str
    machine: Machine
    load: str
    """Of the machine when the run began."""
    rows: tuple[SpeedRow, ...]
    qualities: tuple[Quality, ...]
    missing: tuple[str, ...]
    """Engines and networks that are not here, and why."""
    failures: tuple[Failure, ...] = ()
    judged: tuple[Judged, ...] = ()
    """Networks of others."""

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        parts = [self.command, f"{self.machine}; {self.load}"]
        if self.rows or self.failures:
            parts += [speed_table(self.rows, self.failures), LEGEND, *slower(self.rows)]
        parts += [f"{FAILED}: {failure}" for failure in self.failures]
        if self.qualities:
            parts += [quality_table(self.qualities), QUALITY_LEGEND]
            parts += [f"{q.network}, in float: {line}" for q in self.qualities for line in q.left_in_float]
        if self.judged:
            parts += [judged_table(self.judged), JUDGED_LEGEND, *kept_in_float(self.judged)]
            parts += [
                f"{row.network}, {row.setting}: the file answers otherwise"
                for row in self.judged
                if not row.same_from_file
            ]
        parts += [f"left out: {text}" for text in self.missing]
        return "\n\n".join(parts)

    __repr__ = __str__


def slower(rows: Sequence[SpeedRow]) -> Iterator[str]:
    """A sentence for each network and number of threads that something else runs faster: the fastest of it."""
    for network, threads in dict.fromkeys((row.network, row.threads) for row in rows):
        own = [row for row in rows if (row.network, row.threads) == (network, threads)]
        best = min(own, key=lambda row: row.ratio.median)
        if best.ratio.median < 1.0:
            yield (
                f"{network}, {threads} thread(s): bittern's integers are not the fastest here; "
                f"{best.peer} takes {best.peer_latency_us.median / US_PER_MS:.2f} ms, {best.ratio.median:.2f} of "
                "bittern's time."
            )
