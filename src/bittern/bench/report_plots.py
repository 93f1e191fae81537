"""Plots of the demo's report: SVG text that takes its colours and its font from the page around it.

Matplotlib draws with stand-in colours; `_inline` replaces them by CSS variables, so that one drawing serves light and
dark. Text stays text. Equal results give equal bytes.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COLORS = {
    "#0a0001": "var(--ink)",
    "#0a0002": "var(--muted)",
    "#0a0003": "var(--line)",
    "#0a0004": "var(--accent)",
    "#0a0005": "var(--float)",
    "#0a0006": "var(--card)",
}
"""Stand-in colour in the drawing -> CSS variable of the page."""
INK, MUTED, LINE, ACCENT, BASELINE, CARD = COLORS
LABEL_GAP = 0.078
"""Least distance between two labels, as a share of the plot's height."""
LABEL_WIDTH = 0.3
"""Room that the longest name takes, as a share of the plot's width."""
SMOOTHING = 9
"""Steps in the running mean of a loss curve."""


@dataclass(frozen=True, slots=True)
class Point:
    """One network in a scatter plot."""

    name: str
    x: float
    y: float
    """Accuracy, a share."""
    baseline: bool


@dataclass(frozen=True, slots=True)
class XAxis:
    """What accuracy is plotted against: a title, ticks with their texts, and whether it is logarithmic."""

    title: str
    ticks: tuple[tuple[float, str], ...]
    log: bool


def scatter(key: str, title: str, description: str, points: Sequence[Point], x_axis: XAxis) -> str:
    """Accuracy against something, every point named. key: prefix of all ids inside, unique on the page."""
    figure = _figure(5.0, 3.4)
    axes = figure.add_axes((0.1, 0.15, 0.885, 0.83))
    places = [x for x, _ in x_axis.ticks]
    axes.set_xscale("log" if x_axis.log else "linear")
    axes.set_xlim(places[0], places[-1])
    axes.set_xticks(places, labels=[text for _, text in x_axis.ticks])
    axes.set_xlabel(x_axis.title, color=MUTED, labelpad=6)
    ticks = accuracy_ticks([p.y for p in points])
    margin = (ticks[-1] - ticks[0]) * 0.04
    axes.set_ylim(ticks[0] - margin, ticks[-1] + margin)
    axes.set_yticks(ticks, labels=[f"{100 * y:g}%" for y in ticks])
    _plain_axes(axes)
    for point in points:
        color, marker = (BASELINE, "D") if point.baseline else (ACCENT, "o")
        axes.plot([point.x], [point.y], marker, color=color, markersize=8, markeredgecolor=CARD, clip_on=False)
    _label_points(axes, points)
    return _inline(figure, key, title, description)


def curve(key: str, title: str, description: str, losses: Sequence[float], baseline: Sequence[float]) -> str:
    """Training loss of one network, on a log scale, over that of the baseline; the same losses draw one line."""
    figure = _figure(2.4, 1.45)
    axes = figure.add_axes((0.17, 0.17, 0.8, 0.79))
    lines = [(_smooth(baseline), BASELINE, 1.2)]
    if list(losses) != list(baseline):
        lines.append((_smooth(losses), ACCENT, 1.6))
    everything = [value for line, _, _ in lines for value in line]
    axes.set_yscale("log")
    bottom, top = math.floor(math.log10(max(min(everything), 1e-6))), math.ceil(math.log10(max(everything)))
    axes.set_ylim(10.0**bottom, 10.0 ** max(top, bottom + 1))
    decades = [10.0**e for e in range(bottom, max(top, bottom + 1) + 1)]
    axes.set_yticks(decades, labels=[f"{y:g}" for y in decades])
    steps = max(len(losses), len(baseline))
    axes.set_xlim(0, steps)
    axes.set_xticks([0, steps], labels=["0", f"{steps} steps"])
    _plain_axes(axes)
    axes.xaxis.get_ticklabels()[0].set_ha("left")
    axes.xaxis.get_ticklabels()[1].set_ha("right")
    for line, color, width in lines:
        axes.plot(range(1, len(line) + 1), line, color=color, linewidth=width, solid_joinstyle="round")
    return _inline(figure, key, title, description)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _plain_axes(axes: Any) -> None:
    """Horizontal rules only, no box, no background."""
    from matplotlib.ticker import NullLocator

    axes.set_facecolor("none")
    axes.figure.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(colors=MUTED, length=0, pad=5, labelsize=10)


def _label_points(axes: Any, points: Sequence[Point]) -> None:
    """The methods' names in a column right of their points, joined to them by thin lines; the baseline's beside it."""
    to_share = axes.transData + axes.transAxes.inverted()
    places = {p: to_share.transform((p.x, p.y)) for p in points}
    methods = [p for p in points if not p.baseline]
    column = max((places[p][0] for p in methods), default=0.0) + 0.07
    for p in points:
        if p.baseline and column - 0.05 <= places[p][0] <= column + LABEL_WIDTH:
            column = places[p][0] + 0.07
    heights = _without_crossings(
        [places[p] for p in methods], spread([places[p][1] for p in methods], LABEL_GAP, 0.04, 0.96)
    )
    text = {"transform": axes.transAxes, "va": "center_baseline", "fontsize": 10}
    for p, height in zip(methods, heights, strict=True):
        x, y = places[p]
        ends = [x, column - 0.012], [y, height]
        axes.plot(*ends, transform=axes.transAxes, color=LINE, linewidth=0.9, zorder=1, clip_on=False)
        axes.text(column, height, p.name, color=INK, ha="left", **text)
    for p in points:
        if p.baseline:
            x, y = places[p]
            axes.text(x, y - 0.085, p.name, color=BASELINE, ha="center", **text)


def spread(heights: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Heights moved apart to at least `gap`, in their order, as little as possible, within [low, high] if they fit.

    Neighbours that would overlap form a group, centred on the mean of its members' heights.
    """
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    groups: list[list[int]] = []

    def bottom(group: Sequence[int]) -> float:
        tall = gap * (len(group) - 1)
        return max(low, min(sum(heights[i] for i in group) / len(group) - tall / 2, high - tall))

    for i in order:
        groups.append([i])
        while len(groups) > 1 and bottom(groups[-1]) < bottom(groups[-2]) + gap * len(groups[-2]):
            last = groups.pop()
            groups[-1].extend(last)
    placed = [0.0] * len(heights)
    for group in groups:
        for place, i in enumerate(group):
            placed[i] = bottom(group) + gap * place
    return placed


def _without_crossings(places: Sequence[tuple[float, float]], heights: Sequence[float]) -> list[float]:
    """Among points of one height, give the labels that are farther away to the points farther left of the column."""
    result = list(heights)
    for level in {y for _, y in places}:
        same = [i for i, (_, y) in enumerate(places) if y == level]
        farthest = sorted((heights[i] for i in same), key=lambda h: -abs(h - level))
        for i, height in zip(sorted(same, key=lambda i: places[i][0]), farthest, strict=True):
            result[i] = height
    return result


def accuracy_ticks(values: Sequence[float]) -> list[float]:
    """At least three round shares in equal steps around `values`, in [0, 1]."""
    low, high = min(values), max(values)
    steps = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
    step = next((s for s in steps if (high - low) / s <= 4), steps[-1])
    first, last = math.floor(low / step), math.ceil(high / step)
    last = min(max(last, first + 2), round(1 / step))
    first = max(min(first, last - 2), 0)
    return [round(i * step, 3) for i in range(first, last + 1)]


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean over the last steps, fewer at the start."""
    windows = [values[max(0, i + 1 - SMOOTHING) : i + 1] for i in range(len(values))]
    return [sum(w) / len(w) for w in windows]


def linear_axis(title: str, largest: float) -> XAxis:
    """From 0, in round steps, with room for the names right of the largest value."""
    rough = largest / (1.0 - LABEL_WIDTH - 0.08) / 5
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough)
    # the last tick has no text, which would stand out beyond the drawing
    return XAxis(title, (*((i * step, f"{i * step:,g}") for i in range(5)), (5 * step, "")), log=False)


def bytes_axis(title: str, sizes: Sequence[int]) -> XAxis:
    """Logarithmic, whole decades and their halves around `sizes`."""
    names = {3: "1 kB", 4: "10 kB", 5: "100 kB", 6: "1 MB", 7: "10 MB", 8: "100 MB", 9: "1 GB"}
    first = min(max(math.floor(math.log10(min(sizes))), 3), 8)
    ticks = [(10.0**e, names[e]) for e in range(first, 10) if 10.0**e <= max(sizes)]
    return XAxis(title, (*ticks, (max(sizes) * 2.0, "")), log=True)


def _inline(figure: Any, key: str, title: str, description: str) -> str:
    """The figure as an <svg> element for a page that defines the CSS variables of `COLORS`."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "bittern"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    match = re.search(r'<svg[^>]*viewBox="([^"]*)"[^>]*>(.*)</svg>', buffer.getvalue(), re.DOTALL)
    assert match is not None
    box, body = match.groups()
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # a <style> inside an inline drawing would apply to the whole page
    body = re.sub(r"\s*<style.*?</style>", "", body, flags=re.DOTALL)
    # ids must differ between the drawings of one page
    body = re.sub(r'\bid="([^"]*)"', rf'id="{key}-\1"', body)
    body = body.replace('href="#', f'href="#{key}-').replace("url(#", f"url(#{key}-")
    body = re.sub(r"font-family: [^;\"]*", "font-family: inherit", body)
    body = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font-size: \1; font-family: inherit", body)
    for stand_in, variable in COLORS.items():
        body = body.replace(stand_in, variable)
    return (
        f'<svg viewBox="{box}" role="img" aria-labelledby="{key}-title {key}-desc" stroke-linejoin="round">'
        f'<title id="{key}-title">{html.escape(title)}</title><desc id="{key}-desc">{html.escape(description)}</desc>'
        f"{body}</svg>"
    )
