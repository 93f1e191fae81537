# SPDX-License-Identifier: Apache-2.0
"""Published accuracy beside measured latency: what signs buy on this CPU, and where 8 bits or floats buy more.

The networks of a run have random weights, so accuracies are those that others printed, each with its source. A float or
8-bit network stands at the time of the fastest engine of that kind that was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from bittern.bench.core.pareto import beats
from bittern.bench.speed.networks import Network
from bittern.bench.speed.rows import US_PER_MS, SpeedRow
from bittern.nn._table import text_table
from bittern.recipes.published import Published

OWN = "bittern"
INT8, FP32 = "int8", "fp32"
"""In the names of peers."""
LEGEND = (
    "top-1: as printed by the source, ImageNet; latencies are of this run. beaten by: another of the table that is no "
    "slower and no less accurate."
)


@dataclass(frozen=True, slots=True)
class Point:
    """A network in an engine: how fast it was here, and how accurate somebody else's weights are."""

    network: str
    engine: str
    latency_us: float
    accuracy: float
    """Percent, top-1."""
    source: str
    beaten_by: tuple[str, ...] = ()
    """Networks that are no slower and no less accurate, and better in one of both; the most accurate first."""


def points_of(rows: Sequence[SpeedRow], networks: Iterable[Network], threads: int) -> tuple[Point, ...]:
    """All that a figure was published of and a row was measured of, on so many threads; the fastest first."""
    here = [row for row in rows if row.threads == threads]
    found: dict[tuple[str, str], Point] = {}

    def add(network: str, engine: str, latency_us: float, published: Published) -> None:
        found[network, engine] = Point(network, engine, latency_us, published.accuracy, published.source)

    for network in networks:
        own = [row for row in here if row.network == network.title]
        if own and network.published is not None:
            add(network.title, OWN, median(row.latency_us.median for row in own), network.published)
        for twin in network.twins:
            for kind, published in ((FP32, twin.published), (INT8, twin.published_int8)):
                of_kind = [row for row in own if row.twin == twin.name and kind in row.peer.replace(",", " ").split()]
                if of_kind and published is not None:
                    best = min(of_kind, key=lambda row: row.peer_latency_us.median)
                    add(published.network, best.peer, best.peer_latency_us.median, published)
    return tuple(sorted((_judged(one, found.values()) for one in found.values()), key=lambda one: one.latency_us))


def _judged(one: Point, others: Iterable[Point]) -> Point:
    better = [other for other in others if beats(_figures(other), _figures(one))]
    better.sort(key=lambda other: -other.accuracy)
    return replace(one, beaten_by=tuple(other.network for other in better))


def _figures(one: Point) -> tuple[float, float]:
    return one.latency_us, -one.accuracy


def points_table(points: Sequence[Point]) -> str:
    """One line per point."""
    header = ("network", "in", "ms", "top-1", "beaten by", "source of the accuracy")
    lines = [
        (
            one.network,
            one.engine,
            f"{one.latency_us / US_PER_MS:.2f}",
            f"{one.accuracy:.1f} %",
            one.beaten_by[0] if one.beaten_by else "",
            one.source,
        )
        for one in points
    ]
    return text_table(header, lines, right=(2, 3))
