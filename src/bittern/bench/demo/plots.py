# SPDX-License-Identifier: Apache-2.0
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
NAMES, VALUES = 0.31, 0.85
"""Where the names of a dot plot end and its numbers begin, as shares of the drawing's width."""
CONFIDENCE_Z = 1.96
"""Of the standard normal distribution: 95 % of it lies within so many standard deviations."""
SMOOTHING = 9
"""Steps in the running mean of a loss curve."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One network in a dot plot."""

    name: str
    value: float
    low: float
    high: float
    """The interval around the value that the measurement leaves."""
    text: str
    """The value in words."""
    baseline: bool


@dataclass(frozen=True, slots=True)
class Axis:
    """A title, and ticks with their texts from one end to the other."""

    title: str
    ticks: tuple[tuple[float, str], ...]


def dots(key: str, title: str, description: str, rows: Sequence[Dot], axis: Axis) -> str:
    """A line for each network: its name, a dot in its interval, its value. key: prefix of all ids inside, unique."""
    height = 0.62 + 0.27 * len(rows)
    figure = _figure(5.0, height)
    axes = figure.add_axes((NAMES, 0.5 / height, VALUES - NAMES, 1.0 - 0.55 / height))
    places = [x for x, _ in axis.ticks]
    axes.set_xlim(places[0], places[-1])
    axes.set_xticks(places, labels=[text for _, text in axis.ticks])
    axes.set_xlabel(axis.title, color=MUTED, labelpad=6)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks([])
    _plain_axes(axes, "x")
    text = {"transform": axes.get_yaxis_transform(), "va": "center_baseline", "fontsize": 10}
    for place, row in enumerate(rows):
        color, marker = (BASELINE, "D") if row.baseline else (ACCENT, "o")
        if row.baseline:
            axes.axvline(row.value, color=BASELINE, linewidth=0.9, zorder=1)
        axes.plot([row.low, row.high], [place, place], color=color, linewidth=2.2, alpha=0.45, solid_capstyle="round")
        axes.plot([row.value], [place], marker, color=color, markersize=8, markeredgecolor=CARD, clip_on=False)
        axes.text(-0.04, place, row.name, color=BASELINE if row.baseline else INK, ha="right", **text)
        axes.text(1.05, place, row.text, color=MUTED, ha="left", **text)
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
    _plain_axes(axes, "y")
    axes.xaxis.get_ticklabels()[0].set_ha("left")
    axes.xaxis.get_ticklabels()[1].set_ha("right")
    for line, color, width in lines:
        axes.plot(range(1, len(line) + 1), line, color=color, linewidth=width, solid_joinstyle="round")
    return _inline(figure, key, title, description)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _plain_axes(axes: Any, rules: str) -> None:
    """Rules along the ticks of one axis, "x" or "y"; no box, no background."""
    from matplotlib.ticker import NullLocator

    axes.set_facecolor("none")
    axes.figure.patch.set_visible(False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis=rules, color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(colors=MUTED, length=0, pad=5, labelsize=10)


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a probability of which `share` was seen in `count` trials.

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n). Unlike p ± z √(p(1 − p)/n) it has a width at p = 0 and 1.
    E. B. Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    over = CONFIDENCE_Z**2 / count
    middle = share + over / 2
    half = math.sqrt(over * share * (1.0 - share) + over**2 / 4)
    return max(0.0, (middle - half) / (1.0 + over)), min(1.0, (middle + half) / (1.0 + over))


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


def accuracy_axis(values: Sequence[float]) -> Axis:
    """Around shares; every other tick has a text where there are many."""
    ticks = accuracy_ticks(values)
    every = 1 if len(ticks) <= 4 else 2
    return Axis("test accuracy", tuple((y, "" if i % every else f"{100 * y:g}%") for i, y in enumerate(ticks)))


def linear_axis(title: str, largest: float) -> Axis:
    """From 0, in round steps, to at least `largest`."""
    rough = largest / 4
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough)
    return Axis(title, tuple((i * step, f"{i * step:,g}") for i in range(math.ceil(largest / step) + 1)))


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
