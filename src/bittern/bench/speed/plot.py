# SPDX-License-Identifier: Apache-2.0
"""Latencies of `bittern bench speed` as one drawing: a panel per network, a bar per engine."""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import median
from typing import Any

from bittern.bench.core.drawing import INK, LINE
from bittern.bench.speed.report import SpeedReport
from bittern.bench.speed.rows import ITSELF, US_PER_MS, SpeedRow

OURS, THEIRS = "#0f766e", "#9ca3af"
BAR_INCHES = 0.24
HEAD_INCHES = 0.75
"""Room for the title and the axis of a panel."""
LABEL_ROOM = 1.3
"""Times the longest bar: room for the text behind it."""


def latencies_svg(report: SpeedReport) -> bytes:
    """An SVG file: median latency of one image on the least number of threads that was measured.

    Raises: ValueError for a report without comparisons.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = _panels(report.rows)
    if not panels:
        raise ValueError("latencies_svg: the report has no comparison to draw; measure at least one network and peer")
    bars = [1 + len(rows) for rows in panels.values()]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "bittern", "font.size": 9}):
        height = sum(BAR_INCHES * n + HEAD_INCHES for n in bars)
        figure = Figure(figsize=(7.2, height), layout="constrained")
        axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=bars)[:, 0]
        for place, (title, rows) in zip(axes, panels.items(), strict=True):
            _panel(place, title, rows)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _panels(rows: Sequence[SpeedRow]) -> dict[str, list[SpeedRow]]:
    """Title -> comparisons with float networks on the least number of threads."""
    least = min((row.threads for row in rows), default=1)
    panels: dict[str, list[SpeedRow]] = {}
    for row in rows:
        if row.threads == least and row.twin != ITSELF:
            title = f"{row.network}, against {row.twin}, {least} thread{'s' if least > 1 else ''}"
            panels.setdefault(title, []).append(row)
    return panels


def _panel(axes: Any, title: str, rows: Sequence[SpeedRow]) -> None:
    ours = median(row.latency_us.median for row in rows) / US_PER_MS
    names = ["bittern, packed", *(row.peer for row in rows)]
    times = [ours, *(row.peer_latency_us.median / US_PER_MS for row in rows)]
    texts = [f"{ours:.2f}", *(f"{t:.2f}  ({row.ratio.median:.1f}x)" for t, row in zip(times[1:], rows, strict=True))]
    places = range(len(names))
    axes.barh(places, times, color=[OURS] + [THEIRS] * len(rows), height=0.7)
    axes.set_yticks(places, labels=names)
    axes.invert_yaxis()
    axes.set_xlim(0, max(times) * LABEL_ROOM)
    for place, time, text in zip(places, times, texts, strict=True):
        axes.annotate(text, (time, place), (4, 0), textcoords="offset points", va="center", color=INK, fontsize=8)
    axes.set_title(title, fontsize=9, color=INK, loc="left")
    axes.set_xlabel("ms for one image, median (times bittern's, pair by pair)", color=INK, fontsize=8)
    axes.tick_params(length=0, colors=INK)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
