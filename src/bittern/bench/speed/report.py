# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench speed` measured: the rows, and the tables that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bittern.bench.core.machine import Machine
from bittern.bench.core.rows import Figure, figures_table
from bittern.bench.core.store import to_json
from bittern.bench.core.timing import Spread
from bittern.bench.speed.accuracy import LEGEND as POINTS_LEGEND
from bittern.bench.speed.accuracy import Point, points_table
from bittern.bench.speed.layers import LayerRow
from bittern.bench.speed.memory import MemoryRow
from bittern.bench.speed.rows import FAILED, Failure, SpeedRow, reached, speed_table
from bittern.nn._table import text_table

MIB = 2**20
LEGEND = (
    "ratio: the other engine's time / bittern's, pair by pair, median (min - max); above 1 bittern is faster. Each row "
    "is a measurement of its own, so bittern's time is there once for each. OpenVINO int8: concatenations, and "
    "norms that no convolution takes in, stay in float32, for it crashes on them in 8 bits."
)
LAYERS_LEGEND = (
    "GMAC/s counts products of signs. of peak: share of the rate of the kernels' own counting loop on operands in the "
    "first-level cache, one thread; of kernels in the median of pairs, of layers against the best. Layers are timed "
    "one by one, so each time contains some microseconds of Python."
)


@dataclass(frozen=True, slots=True)
class NetworkLayers:
    """Where the time of a packed network goes, on one thread."""

    network: str
    rows: tuple[LayerRow, ...]
    other_us: float
    """Of all that is no binary layer: stem, shortcuts, pools, head."""


@dataclass(frozen=True, repr=False, slots=True)
class SpeedReport:
    """Everything measured by one run; `print(report)` shows tables."""

    command: str
    machine: Machine
    load: str
    """Of the machine when the run began."""
    rows: tuple[SpeedRow, ...]
    missing: tuple[str, ...]
    """Engines that are not here, and why."""
    figures: tuple[Figure, ...]
    memory: tuple[MemoryRow, ...]
    peak_gmac_s: Spread
    kernels: tuple[LayerRow, ...]
    layers: tuple[NetworkLayers, ...]
    points: tuple[Point, ...] = ()
    """Published accuracies beside the latencies of the least number of threads."""
    failures: tuple[Failure, ...] = ()

    def to_json(self) -> str:
        return to_json(self)

    def __str__(self) -> str:
        parts = [self.command, f"{self.machine}; {self.load}", speed_table(self.rows, self.failures), LEGEND]
        parts += [f"{FAILED}: {failure}" for failure in self.failures]
        parts += [f"left out: {text}" for text in self.missing]
        if self.points:
            parts += [points_table(self.points), POINTS_LEGEND]
        if self.figures:
            parts.append(figures_table(self.figures))
        if self.memory:
            parts.append(memory_table(self.memory))
        peak = self.peak_gmac_s
        parts.append(
            f"peak of counting at {self.machine.isa}, one thread: {peak.max:,.0f} GMAC/s at best, {peak.median:,.0f} "
            "in the median"
        )
        parts.append(layers_table(self.kernels))
        for network in self.layers:
            total = sum(row.latency_us for row in network.rows)
            head = f"{network.network}: binary layers {total:,.0f} us, all else {network.other_us:,.0f} us"
            parts.append(f"{head}\n\n{layers_table(network.rows)}")
        parts.append(LAYERS_LEGEND)
        return "\n\n".join(parts)

    __repr__ = __str__


def layers_table(rows: Sequence[LayerRow]) -> str:
    """One line per layer or kernel."""
    header = ("layer", "product", "does", "MMAC", "us", "GMAC/s", "of peak", "target", "reached")
    lines = []
    for row in rows:
        target, verdict = reached(row.of_peak, row.target)
        lines.append(
            (
                row.subject,
                row.shape,
                row.does,
                f"{row.macs / 1e6:,.1f}",
                f"{row.latency_us:,.0f}",
                f"{row.gmac_s:,.0f}",
                f"{row.of_peak:.0%}",
                "" if row.target is None else f">= {row.target:.0%}",
                verdict if target else "",
            )
        )
    return text_table(header, lines, right=(3, 4, 5, 6))


def memory_table(rows: Sequence[MemoryRow]) -> str:
    """One line per network."""
    header = ("peak memory of a run", "packed", "float", "float network", "share", "target", "reached")
    lines = []
    for row in rows:
        least = "" if row.limit is None else f"<= {row.limit:.0%}"
        verdict = "" if row.limit is None else "yes" if row.share <= row.limit else "NO"
        sizes = (f"{n / MIB:.1f} MiB" for n in (row.packed_bytes, row.float_bytes))
        lines.append((row.network, *sizes, row.twin, f"{row.share:.0%}", least, verdict))
    return text_table(header, lines, right=(1, 2, 4))
